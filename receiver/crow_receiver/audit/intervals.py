"""Numbers as intervals, both ends included. Pure functions."""

import heapq
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]


def holes_and_overlaps(taken: Iterable[Iterable[Interval]], low: int, high: int) -> Iterator[tuple[bool, Interval]]:
    """Of `low` to `high`: (True, interval) for numbers in none of `taken`, (False, interval) for those in several.

    Each of `taken` rises by its intervals' beginnings; they may lie partly or wholly outside. One pass, nothing kept.
    """
    reached = low - 1
    for begin, end in heapq.merge(*taken):
        if begin > high:
            break
        if begin > reached + 1:
            yield True, (reached + 1, begin - 1)
        elif begin <= reached and (first := max(begin, low)) <= (last := min(end, reached, high)):
            yield False, (first, last)
        reached = max(reached, end)
    if reached < high:
        yield True, (reached + 1, high)


def covered(intervals: Iterable[Interval], low: int, high: int) -> int:
    """How many of `low` to `high` lie in these intervals, which do not overlap."""
    return sum(max(0, min(end, high) - max(begin, low) + 1) for begin, end in intervals)
