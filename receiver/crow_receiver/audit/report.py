"""What an audit says: per camera what became of its numbers, and what is wrong."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crow_shared.identity import CameraKey

MAX_FAULTS = 1000  # told one by one; all are counted


class End(StrEnum):
    """What became of a number. All but `waiting` are final."""

    TOLD = "told"  # analysed, and in a message
    FAILED = "failed"  # at the receiver, with the reason
    MISSING = "missing"  # never stored here, with the reason
    ERASED = "erased"
    EXPIRED = "expired"  # retention let its records go
    WAITING = "waiting"  # for its analysis, or for its batch to be complete


class FaultKind(StrEnum):
    """What can be wrong."""

    NO_END = "no_end"  # numbers below the stream's position of which nothing is known
    TWO_ENDS = "two_ends"
    BEYOND_POSITION = "beyond_position"  # stored, but the daemon was told that it is not
    LOST = "lost"  # acknowledged by this receiver, which has it no more: it was restored from an older copy
    NO_REASON = "no_reason"  # failed, and nothing says why
    NO_ANALYSIS = "no_analysis"  # called analysed, without an analysis
    UNBATCHED = "unbatched"  # in no batch though its session is closed
    UNFINISHED = "unfinished"  # still waiting though its session is closed
    NO_MESSAGE = "no_message"  # neither in the outbox nor on the queue nor taken
    WRONG_MESSAGE = "wrong_message"  # its frames are not those of its batch
    WINDOW_UNTOLD = "window_untold"  # a closed session's minute that no message tells of
    SESSIONS_OVERLAP = "sessions_overlap"
    OUTSIDE_SESSION = "outside_session"  # a frame beyond its session's times, or in another hour
    WRONG_COUNT = "wrong_count"  # a session has other frames than it counted
    SPOOL_AHEAD = "spool_ahead"  # acknowledged to the spool, and unknown here
    SPOOL_LOST = "spool_lost"  # neither here nor waiting in the spool
    LEDGER_SHORT = "ledger_short"  # more frames are here than the daemon says that it sent
    LEDGER_LOST = "ledger_lost"  # sent, says the daemon, and neither here nor missing nor in its spool


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, for `numbers` frames or messages."""

    kind: FaultKind
    camera: str
    detail: str
    numbers: int


@dataclass(slots=True)
class CameraEnds:
    """A camera's numbers by what became of them."""

    camera: CameraKey
    ends: Counter[End] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of the missing ones

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values; `numbers` is the sum of the ends."""
        ends = {end.value: self.ends[end] for end in End}
        return {"camera": str(self.camera), "numbers": self.ends.total(), **ends, "reasons": dict(self.reasons)}


@dataclass(slots=True)
class LedgerEnds:
    """What became of the samples of which a camera's daemon says that they were sent, where that can be compared.

    `missing` are all numbers of the camera that are missing, of any minute. `at_daemon` is None when nobody told.
    """

    camera: CameraKey
    sent: int = 0
    stored: int = 0
    missing: int = 0
    at_daemon: int | None = None

    @property
    def elsewhere(self) -> int:
        """Sent, and neither here nor missing nor known to wait: as far as can be told, on their way."""
        return max(0, self.sent - self.stored - self.missing - (self.at_daemon or 0))

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        return {
            "camera": str(self.camera),
            "sent": self.sent,
            "stored": self.stored,
            "missing": self.missing,
            "atDaemon": self.at_daemon,
            "elsewhere": self.elsewhere,
        }


@dataclass(slots=True)
class AuditReport:
    """All that an audit found."""

    cameras: list[CameraEnds] = field(default_factory=list)
    ledgers: list[LedgerEnds] = field(default_factory=list)
    sessions: int = 0
    messages: Counter[str] = field(default_factory=Counter)  # by where they are
    faults: list[Fault] = field(default_factory=list)
    totals: Counter[FaultKind] = field(default_factory=Counter)

    def fault(self, kind: FaultKind, camera: CameraKey, detail: str, numbers: int = 1) -> None:
        """Something is wrong."""
        self.totals[kind] += numbers
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(kind, str(camera), detail, numbers))

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        return {
            "ok": not self.totals,
            "cameras": [camera.as_json() for camera in self.cameras],
            "ledgers": [ledger.as_json() for ledger in self.ledgers],
            "sessions": self.sessions,
            "messages": dict(self.messages),
            "faultTotals": {kind.value: count for kind, count in self.totals.items()},
            "faults": [
                {"kind": fault.kind, "camera": fault.camera, "detail": fault.detail, "numbers": fault.numbers}
                for fault in self.faults
            ],
        }
