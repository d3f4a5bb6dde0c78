"""The window follows the link: full on a fast one, one frame on the slowest, and never nothing."""

from collections import deque

import pytest

from crow_daemon.uplink.link import MOST_FRAMES, LinkWindow


def most_seconds_under_way(frames_per_s: float, rounds: int = 2000) -> tuple[LinkWindow, float]:
    """A link that carries one frame after the other; also the longest time that a frame took in the second half."""
    window, now_s, free_s, longest_s = LinkWindow(), 0.0, 0.0, 0.0
    under_way: deque[tuple[float, float]] = deque()  # (sent, arrives)
    for number in range(rounds):
        while window.room and len(under_way) < MOST_FRAMES:
            free_s = max(free_s, now_s) + 1 / frames_per_s
            under_way.append((now_s, free_s))
            window.sent()
        sent_s, now_s = under_way.popleft()
        window.acknowledged(sent_s, now_s)
        if number > rounds // 2:
            longest_s = max(longest_s, now_s - sent_s)
    return window, longest_s


@pytest.mark.parametrize("frames_per_s", [0.1, 0.5, 3, 20, 100])
def test_what_waits_in_a_slow_link_is_acknowledged_within_seconds(frames_per_s: float) -> None:
    window, longest_s = most_seconds_under_way(frames_per_s)
    assert longest_s <= max(3.5, 1 / frames_per_s)
    assert window.frames >= 1


def test_a_fast_link_is_filled() -> None:
    window, longest_s = most_seconds_under_way(5000)
    assert window.frames == MOST_FRAMES
    assert longest_s < 1


def test_a_link_that_becomes_slow_halves_the_window_once_for_what_was_under_way() -> None:
    window = LinkWindow()
    for _ in range(63):
        window.sent()
        window.acknowledged(0, 0)
    for _ in range(64):
        window.sent()
    for number in range(64):
        window.acknowledged(0, 10 + number)
    assert window.frames == 32


def test_frames_whose_stream_ended_take_no_room() -> None:
    window = LinkWindow()
    window.sent()
    assert window.room == 0
    window.given_up(1)
    assert window.room == 1
