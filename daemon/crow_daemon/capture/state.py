"""What a camera is doing right now, for those who look from other threads."""

import threading
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from crow_daemon.capture.ledger import Counts, Ledger, Missed, Outcome, Pace
from crow_daemon.capture.source import StreamInfo
from crow_daemon.registry.camera import Camera, Recording
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind


class CameraState(StrEnum):
    """In words that an operator can act on."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"  # connected, but no more pictures came; being reconnected
    AUTH_FAILED = "auth_failed"  # tried again rarely, so that no account gets locked
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"  # it sends what we cannot decode
    REFUSED = "refused"  # it answers, but not with this stream
    FINISHED = "finished"  # a recording was read to its end
    DISABLED = "disabled"
    STOPPED = "stopped"


_STATE_OF_KIND = {
    Kind.UNAUTHENTICATED: CameraState.AUTH_FAILED,
    Kind.UNSUPPORTED: CameraState.UNSUPPORTED,
    Kind.UNAVAILABLE: CameraState.UNREACHABLE,
    Kind.TIMEOUT: CameraState.UNREACHABLE,
    Kind.INTERNAL: CameraState.UNREACHABLE,
}
_MISSED_IN_STATE = {
    CameraState.AUTH_FAILED: Missed.AUTH_FAILED,
    CameraState.UNSUPPORTED: Missed.UNSUPPORTED,
    CameraState.UNREACHABLE: Missed.CAMERA_DOWN,
    CameraState.REFUSED: Missed.REFUSED,
    CameraState.STALLED: Missed.STALLED,
}

STREAM_STALLED = "stream_stalled"  # the CrowError code of a stream that went silent


def state_of(error: CrowError) -> CameraState:
    """The state that a failure puts a camera into."""
    if error.code == STREAM_STALLED:
        return CameraState.STALLED
    return _STATE_OF_KIND.get(error.kind, CameraState.REFUSED)


@dataclass(frozen=True, slots=True)
class CameraSnapshot:
    """A camera at one moment; counters are since its capture was started (daemon start, or a change of the camera).

    Times are in microseconds since the Unix epoch. `damaged` counts pictures that could not be decoded whole,
    `clock_jumps` how often the stream's time parted from ours. `asked_interval_ms` is the sample interval that the
    receiver asks for, 0 while the camera's own will do. `alert` is what is wrong with what the camera shows, in a word.
    """

    camera_id: str
    state: CameraState
    since_us: int
    last_error_code: str | None = None
    last_error: str | None = None
    reconnects: int = 0
    damaged: int = 0
    clock_jumps: int = 0
    last_sample_us: int | None = None
    asked_interval_ms: int = 0
    alert: str | None = None
    stream: StreamInfo | None = None
    counters: Counts = field(default_factory=Counts)

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values; `stream` and `counters` are objects."""
        return asdict(self)


class CameraMonitor:
    """A `Monitor` that others read snapshots of. Thread-safe."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        """A camera that is being connected to for the first time."""
        self._camera_id = camera.id
        self._clock = clock
        self._lock = threading.Lock()
        self._ledger = Ledger()
        # A recording is read faster or slower than it was taken, so its pace is told by its own ticks alone.
        live = not isinstance(camera.source, Recording)
        self._pace = Pace(camera.sample_interval_ms / 1000, clock.monotonic_s()) if live else None
        self._because = Missed.CONNECTING
        self._state = CameraState.CONNECTING
        self._since_us = clock.now_us()
        self._error: CrowError | None = None
        self._connections = 0
        self._damaged = 0
        self._clock_jumps = 0
        self._last_sample_us: int | None = None
        self.asked_interval_ms = 0
        self._alert: str | None = None
        self._stream: StreamInfo | None = None

    def connecting(self) -> None:
        """A connection is being tried; samples still miss for the reason that ended the last one."""
        with self._lock:
            self._enter(CameraState.CONNECTING)

    def live(self, stream: StreamInfo) -> None:
        """The first whole picture of a connection has come."""
        with self._lock:
            self._settle()
            self._because = Missed.NO_PICTURE
            self._stream = stream
            self._error = None
            self._connections += 1
            self._enter(CameraState.LIVE)

    def failed(self, error: CrowError) -> None:
        """A connection could not be made or was lost."""
        with self._lock:
            state = state_of(error)
            self._because = _MISSED_IN_STATE[state]
            self._settle()
            self._error = error
            self._enter(state)

    def damaged(self) -> None:
        """A picture came that could not be decoded whole."""
        with self._lock:
            self._damaged += 1
            if self._because is not Missed.DECODE_ERROR:
                self._settle()
                self._because = Missed.DECODE_ERROR

    def sampled(self, capture_us: int, skipped_ticks: int) -> None:
        """A sample was taken; its outcome follows."""
        with self._lock:
            missing = skipped_ticks if self._pace is None else self._pace.sample(self._clock.monotonic_s())
            self._ledger.missed(missing, self._because)
            self._because = Missed.NO_PICTURE
            self._last_sample_us = capture_us

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time."""
        with self._lock:
            self._ledger.outcome(outcome)

    def alert(self, word: str | None) -> None:
        """Something is wrong with what the camera shows; None: not any more."""
        with self._lock:
            self._alert = word

    def clock_jumped(self, times: int) -> None:
        """The stream's time parted from ours."""
        with self._lock:
            self._clock_jumps += times

    def finished(self, remaining_ticks: int) -> None:
        """A recording ended, so many ticks before it should have."""
        with self._lock:
            self._ledger.missed(remaining_ticks, self._because)
            self._enter(CameraState.FINISHED)

    def stopped(self) -> None:
        """The capture was stopped; what is due later is not expected."""
        with self._lock:
            if self._state is not CameraState.FINISHED:
                self._settle_unless_live()
                self._enter(CameraState.STOPPED)

    def snapshot(self) -> CameraSnapshot:
        """The camera now."""
        with self._lock:
            self._settle_unless_live()
            return CameraSnapshot(
                camera_id=self._camera_id,
                state=self._state,
                since_us=self._since_us,
                last_error_code=self._error.code if self._error else None,
                last_error=self._error.message if self._error else None,
                reconnects=max(0, self._connections - 1),
                damaged=self._damaged,
                clock_jumps=self._clock_jumps,
                last_sample_us=self._last_sample_us,
                asked_interval_ms=self.asked_interval_ms,
                alert=self._alert,
                stream=self._stream,
                counters=self._ledger.counts(),
            )

    def _settle_unless_live(self) -> None:
        """While a stream runs, the next sample may just be on its way: it settles what is missing before it."""
        if self._state not in (CameraState.LIVE, CameraState.FINISHED, CameraState.STOPPED):
            self._settle()

    def _settle(self) -> None:
        if self._pace is not None:
            self._ledger.missed(self._pace.overdue(self._clock.monotonic_s()), self._because)

    def _enter(self, state: CameraState) -> None:
        if state is not self._state:
            self._state = state
            self._since_us = self._clock.now_us()
