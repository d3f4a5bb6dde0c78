"""Where every sample went. Pure: time is passed in.

Invariants
1. expected == sampled + missed, summed over the reasons.
2. sampled == offered + gated + dropped, summed over the reasons.
3. A live camera's expected samples are its time enabled times its rate, by the monotonic clock, give or take one. A
   recording's are the ticks that it lasts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from crow_daemon.gate.gate import GateReason


class Missed(StrEnum):
    """Why there was no picture when a sample was due."""

    CONNECTING = "connecting"  # not connected yet, for the first time
    CAMERA_DOWN = "camera_down"
    AUTH_FAILED = "auth_failed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    STALLED = "stalled"
    DECODE_ERROR = "decode_error"
    NO_PICTURE = "no_picture"  # the stream runs, but has fewer pictures than samples are due


class Dropped(StrEnum):
    """Why a sample was neither offered nor held back by the gate."""

    OVERLOAD = "overload"  # too many wait for the spool's disk
    SPOOL_FULL = "spool_full"  # the disk, or the spool by its bounds, has no room
    SPOOL_UNAVAILABLE = "spool_unavailable"  # the disk refuses: read-only, or failing
    ENCODE_ERROR = "encode_error"
    DEGRADED = "degraded"  # the receiver asked for a longer interval
    STOPPED = "stopped"  # a recording was waiting for room when it was stopped


SENT: Final = "sent"  # taken over for delivery
Outcome = Literal["sent"] | GateReason | Dropped


@dataclass(frozen=True, slots=True)
class Counts:
    """A reading of a ledger."""

    expected: int = 0
    sampled: int = 0
    offered: int = 0
    missed: Mapping[Missed, int] = field(default_factory=dict)
    gated: Mapping[GateReason, int] = field(default_factory=dict)
    dropped: Mapping[Dropped, int] = field(default_factory=dict)


class Ledger:
    """The counts of one camera."""

    def __init__(self) -> None:
        """All zero."""
        self._offered = 0
        self._missed: dict[Missed, int] = {}
        self._gated: dict[GateReason, int] = {}
        self._dropped: dict[Dropped, int] = {}

    def missed(self, samples: int, reason: Missed) -> None:
        """So many samples were due and had no picture."""
        if samples > 0:
            self._missed[reason] = self._missed.get(reason, 0) + samples

    def outcome(self, outcome: Outcome) -> None:
        """A sample was taken over by the sink, held back by the gate, or lost on our side."""
        match outcome:
            case GateReason():
                self._gated[outcome] = self._gated.get(outcome, 0) + 1
            case Dropped():
                self._dropped[outcome] = self._dropped.get(outcome, 0) + 1
            case _:
                self._offered += 1

    def counts(self) -> Counts:
        """The counts now."""
        sampled = self._offered + sum(self._gated.values()) + sum(self._dropped.values())
        expected = sampled + sum(self._missed.values())
        return Counts(expected, sampled, self._offered, dict(self._missed), dict(self._gated), dict(self._dropped))


class Pace:
    """How many samples of a live camera are overdue, by the monotonic clock.

    Samples come at one phase of the interval, give or take some jitter. The first one sets the phase; from then on a
    sample may be half an interval early or late without being taken for a hole.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        """The camera was enabled now."""
        self._interval_s = interval_s
        self._anchor_s = now_s
        self._settled = 0  # samples taken or given up since the anchor
        self._phased = False

    def sample(self, now_s: float) -> int:
        """A sample has come; returns how many before it are missing and takes them as given up."""
        elapsed = (now_s - self._anchor_s) / self._interval_s
        if not self._phased:
            missing = max(0, int(elapsed) - self._settled)
            self._phased, self._anchor_s, self._settled = True, now_s, 1
            return missing
        missing = max(0, int(elapsed + 0.5) - self._settled)
        self._settled += missing + 1
        return missing

    def overdue(self, now_s: float) -> int:
        """No sample is coming for now; returns how many are missing by now and takes them as given up."""
        elapsed = (now_s - self._anchor_s) / self._interval_s
        missing = max(0, int(elapsed + 0.5 if self._phased else elapsed) - self._settled)
        self._settled += missing
        return missing
