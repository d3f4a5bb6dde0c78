"""Counts of samples by what became of them, and how samples lie in minutes. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from crow_daemon.capture.outcome import Dropped, Missed
from crow_daemon.gate.gate import GateReason

MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Counts:
    """A reading of a tally. `dropped` has samples that were lost on our side, and those that never came."""

    expected: int = 0
    sent: int = 0
    gated: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """Samples by what became of them; what was expected is their sum, so it can be nothing else."""

    sent: int = 0
    gated: Counter[str] = field(default_factory=Counter)  # by GateReason
    dropped: Counter[str] = field(default_factory=Counter)  # by Dropped or Missed
    alerts: set[str] = field(default_factory=set)  # what was wrong with the picture

    @property
    def expected(self) -> int:
        """All of them."""
        return self.sent + self.gated.total() + self.dropped.total()

    def add(self, other: "Tally") -> None:
        """Takes over what another one counted."""
        self.sent += other.sent
        self.gated.update(other.gated)
        self.dropped.update(other.dropped)
        self.alerts |= other.alerts

    def counts(self) -> Counts:
        """The counts now."""
        return Counts(self.expected, self.sent, dict(self.gated), dict(+self.dropped))


@dataclass(frozen=True, slots=True)
class WrittenMinute:
    """One camera's minute as it is written down."""

    camera_id: str
    minute_us: int
    revision: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """The receiver has this minute, in this revision or a higher one."""

    camera_id: str
    minute_us: int
    revision: int


def minute_of(time_us: int) -> int:
    """The start of the minute that a time lies in."""
    return time_us // MINUTE_US * MINUTE_US


def by_minute(first_us: int, interval_us: int, samples: int) -> Iterator[tuple[int, int]]:
    """(minute, how many of the samples) for samples that were due at `first_us` and each interval after it."""
    while samples > 0:
        minute_us = minute_of(first_us)
        within = min(samples, -(-(minute_us + MINUTE_US - first_us) // interval_us))
        yield minute_us, within
        first_us += within * interval_us
        samples -= within


class Minutes:
    """Tallies by camera id and start of the minute."""

    def __init__(self) -> None:
        """Empty."""
        self.tallies: dict[tuple[str, int], Tally] = {}

    def at(self, camera_id: str, time_us: int) -> Tally:
        """The tally of the minute that a time lies in."""
        return self.tallies.setdefault((camera_id, minute_of(time_us)), Tally())

    def sent(self, camera_id: str, capture_us: int) -> None:
        """A frame of that time is in the spool."""
        self.at(camera_id, capture_us).sent += 1

    def held(self, camera_id: str, capture_us: int, reason: GateReason | Dropped) -> None:
        """The sample of that time was held back, or lost."""
        tally = self.at(camera_id, capture_us)
        (tally.gated if isinstance(reason, GateReason) else tally.dropped)[reason] += 1

    def missed(self, camera_id: str, first_us: int, interval_us: int, samples: int, reason: Missed) -> None:
        """Samples that were due at `first_us`, and each interval after it, did not come."""
        for minute_us, within in by_minute(first_us, interval_us, samples):
            self.at(camera_id, minute_us).dropped[reason] += within

    def came_late(self, camera_id: str, due_us: int, reason: Missed) -> None:
        """A sample that was missed came after all: less one, though what is counted here may be below none then."""
        self.at(camera_id, due_us).dropped[reason] -= 1

    def add(self, other: "Minutes") -> None:
        """Takes over what another one counted."""
        for (camera_id, minute_us), tally in other.tallies.items():
            self.at(camera_id, minute_us).add(tally)

    def forget_oldest(self, keep: int) -> int:
        """Forgets all minutes but the `keep` latest ones; returns how many."""
        oldest_first = sorted(self.tallies, key=lambda key: key[1])
        excess = oldest_first[: max(0, len(oldest_first) - keep)]
        for key in excess:
            del self.tallies[key]
        return len(excess)
