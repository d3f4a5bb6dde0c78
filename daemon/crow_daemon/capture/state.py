"""What a camera is doing right now, for those who look from other threads."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crow_daemon.capture.backoff import AFTER_REFUSED_LOGIN_S
from crow_daemon.capture.outcome import Missed, Outcome
from crow_daemon.capture.source import StreamInfo
from crow_daemon.ledger.account import CameraAccount
from crow_daemon.ledger.tally import Counts
from crow_shared.clock import Clock, Moment
from crow_shared.errors import CrowError, Kind


class CameraState(StrEnum):
    """In words that an operator can act on."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"  # connected, but no more pictures came; being reconnected
    AUTH_FAILED = "auth_failed"  # tried again rarely, so that no account gets locked
    UNREACHABLE = "unreachable"
    CRASHED = "crashed"  # the process that reads it died; being started again
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

# CrowError codes that mean a state of their own.
STREAM_STALLED = "stream_stalled"  # the stream went silent
_WORKER_LOST = frozenset({Missed.WORKER_CRASHED, Missed.WORKER_HUNG, Missed.WORKER_MEMORY})


def state_of(error: CrowError) -> CameraState:
    """The state that a failure puts a camera into."""
    if error.code == STREAM_STALLED:
        return CameraState.STALLED
    if error.code in _WORKER_LOST:
        return CameraState.CRASHED
    return _STATE_OF_KIND.get(error.kind, CameraState.REFUSED)


@dataclass(frozen=True, slots=True)
class CameraSnapshot:
    """A camera at one moment; `counters` are since the daemon began to follow it, the others since its last change.

    Times are in microseconds since the Unix epoch. `damaged` counts pictures that could not be decoded whole,
    `clock_jumps` how often the stream's time parted from ours; `clock_skew_us` is by how much the camera's clock was
    ahead of ours at the last sample, None where it tells no time. `asked_interval_ms` is the sample interval that the
    receiver asks for, 0 while the camera's own will do. `alert` is what is wrong with what the camera shows, in a word.
    `worker_pid` is the process that reads it, `worker_losses` how often that had to be replaced, by reason, since the
    daemon began.
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
    clock_skew_us: int | None = None
    asked_interval_ms: int = 0
    alert: str | None = None
    stream: StreamInfo | None = None
    worker_pid: int | None = None
    worker_losses: Mapping[str, int] = field(default_factory=dict)
    counters: Counts = field(default_factory=Counts)

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values; `stream` and `counters` are objects."""
        # Not dataclasses.asdict, which copies all that lies within: half of what writing the status costs.
        plain = _fields(self)
        plain["stream"] = _fields(self.stream) if self.stream else None
        plain["counters"] = _fields(self.counters)
        return plain


def _fields(value: CameraSnapshot | StreamInfo | Counts) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


class CameraMonitor:
    """A `Monitor` that others read snapshots of. Thread-safe.

    What happened elsewhere, in a worker, is told with the moment at which it did; without one, it happens now.
    """

    def __init__(self, camera_id: str, account: CameraAccount, clock: Clock) -> None:
        """A camera that is being connected to for the first time."""
        self._camera_id = camera_id
        self._account = account
        self._clock = clock
        self._lock = threading.Lock()
        self._state = CameraState.CONNECTING
        self._since_us = clock.now_us()
        self._error: CrowError | None = None
        self._login_refused: tuple[CrowError, float] | None = None  # the last time, by the monotonic clock in seconds
        self._was_live = False
        self._reconnects = 0
        self._damaged = 0
        self._clock_jumps = 0
        self._last_sample_us: int | None = None
        self._clock_skew_us: int | None = None
        self.asked_interval_ms = 0
        self._alert: str | None = None
        self._stream: StreamInfo | None = None
        account.no_stream(Missed.CONNECTING, self._now(None))

    def connecting(self, at: Moment | None = None) -> None:
        """A connection is being tried; samples still miss for the reason that ended the last one."""
        with self._lock:
            self._enter(CameraState.CONNECTING, self._now(at))

    def live(self, stream: StreamInfo, at: Moment | None = None) -> None:
        """The first whole picture of a connection has come; or what is said of its stream is different from now on."""
        with self._lock:
            self._stream = stream
            if self._state is CameraState.LIVE:
                return
            self._account.live(self._now(at))
            self._reconnects += self._was_live and self._error is not None  # not where only the mode has changed
            self._was_live, self._error = True, None
            self._enter(CameraState.LIVE, self._now(at))

    def failed(self, error: CrowError, at: Moment | None = None) -> None:
        """A connection could not be made or was lost, or the worker crashed."""
        with self._lock:
            state, now = state_of(error), self._now(at)
            if state is CameraState.AUTH_FAILED:
                self._login_refused = error, now.monotonic_s
            if state is CameraState.CRASHED:
                self._account.worker_lost(Missed(error.code), now)
                self._alert = None
                self._account.alert(None, now)
            else:
                self._account.no_stream(_MISSED_IN_STATE[state], now)
            self._error = error
            self._enter(state, now)

    def await_login(self) -> float:
        """In how many seconds a login may be tried; until then, that it was refused is what the camera's state says.

        Whoever reads the camera anew has to know: the camera counts the attempts of its forerunners, too.
        """
        with self._lock:
            now = self._now(None)
            if self._login_refused is None:
                return 0.0
            error, refused_s = self._login_refused
            left_s = refused_s + AFTER_REFUSED_LOGIN_S - now.monotonic_s
            if left_s <= 0:
                return 0.0
            self._account.no_stream(Missed.AUTH_FAILED, now)
            self._error = error
            self._enter(CameraState.AUTH_FAILED, now)
            return left_s

    def damaged(self, at: Moment | None = None) -> None:
        """A picture came that could not be decoded whole."""
        with self._lock:
            self._damaged += 1
            self._account.damaged(self._now(at))

    def sampled(
        self, capture_us: int, skipped_ticks: int, clock_skew_us: int | None = None, at: Moment | None = None
    ) -> None:
        """A sample was taken; its outcome follows."""
        with self._lock:
            self._account.sampled(capture_us, skipped_ticks, self._now(at))
            self._last_sample_us, self._clock_skew_us = capture_us, clock_skew_us

    @property
    def in_hand(self) -> int:
        """The samples without an outcome."""
        return self._account.in_hand

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time."""
        self._account.outcome(capture_us, outcome)

    def is_there(self, capture_us: int) -> bool:
        """Whether the frame of that time is not needed: its sample was settled before the capture was interrupted."""
        return self._account.is_there(capture_us)

    @property
    def resume_after_us(self) -> int | None:
        """The capture time behind which an interrupted recording goes on; None where that is not known."""
        return self._account.resume_after_us

    def alert(self, word: str | None, at: Moment | None = None) -> None:
        """Something is wrong with what the camera shows; None: not any more."""
        with self._lock:
            self._alert = word
            self._account.alert(word, self._now(at))

    def clock_jumped(self, times: int) -> None:
        """The stream's time parted from ours."""
        with self._lock:
            self._clock_jumps += times

    def finished(self, remaining_ticks: int, at: Moment | None = None) -> None:
        """A recording ended, so many ticks before it should have."""
        with self._lock:
            self._account.finished(remaining_ticks)
            self._enter(CameraState.FINISHED, self._now(at))

    def stopped(self, at: Moment | None = None) -> None:
        """The capture was stopped; what is due later is not its concern."""
        with self._lock:
            if self._state not in (CameraState.FINISHED, CameraState.STOPPED):
                self._account.stopped(self._now(at))
                self._account.alert(None, self._now(at))
                self._enter(CameraState.STOPPED, self._now(at))

    def snapshot(self) -> CameraSnapshot:
        """The camera now."""
        with self._lock:
            self._account.look(self._now(None))
            return CameraSnapshot(
                camera_id=self._camera_id,
                state=self._state,
                since_us=self._since_us,
                last_error_code=self._error.code if self._error else None,
                last_error=self._error.message if self._error else None,
                reconnects=self._reconnects,
                damaged=self._damaged,
                clock_jumps=self._clock_jumps,
                last_sample_us=self._last_sample_us,
                clock_skew_us=self._clock_skew_us,
                asked_interval_ms=self.asked_interval_ms,
                alert=self._alert,
                stream=self._stream,
                counters=self._account.counts(),
            )

    def _now(self, at: Moment | None) -> Moment:
        return at or Moment.now(self._clock)

    def _enter(self, state: CameraState, at: Moment) -> None:
        if state is not self._state:
            self._state = state
            self._since_us = at.wall_us
