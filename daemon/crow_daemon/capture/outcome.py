"""The words for what becomes of a sample that is due."""

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
    WORKER_CRASHED = "worker_crashed"  # the process that read the camera died …
    WORKER_HUNG = "worker_hung"  # … or was killed since it hung …
    WORKER_MEMORY = "worker_memory"  # … or since it took too much memory
    DAEMON_DOWN = "daemon_down"  # it did not run, or the machine slept


class Dropped(StrEnum):
    """Why a sample was neither sent nor held back by the gate."""

    OVERLOAD = "overload"  # too many wait for the spool's disk
    SPOOL_FULL = "spool_full"  # the disk, or the spool by its bounds, has no room
    SPOOL_UNAVAILABLE = "spool_unavailable"  # the disk refuses: read-only, or failing
    ENCODE_ERROR = "encode_error"
    DETECT_ERROR = "detect_error"  # the person detector failed, and people are to be blurred
    DEGRADED = "degraded"  # the receiver asked for a longer interval
    STOPPED = "stopped"  # it was in hand when its capture was stopped
    WORKER_CRASHED = "worker_crashed"  # it was in hand when its worker died …
    WORKER_HUNG = "worker_hung"  # … or was killed since it hung …
    WORKER_MEMORY = "worker_memory"  # … or since it took too much memory


SENT: Final = "sent"  # taken over for delivery
Outcome = Literal["sent"] | GateReason | Dropped
