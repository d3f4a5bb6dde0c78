"""One camera's thread: reads, samples, gates, encodes, offers; and tries again for ever when that fails.

Invariants
1. Every sample has exactly one outcome: offered, gated or dropped with a reason. What it was due and did not become a
   sample is missed with a reason. (`ledger` has the arithmetic.)
2. The gate compares with what was sent: it learns of a sample only after the sink took it.
3. A live camera never waits for the sink. A recording does: it can be read later, a moment cannot.
4. Every wait ends when `stop` is called; a read that hangs ends by its time-out.
5. While a longer interval is asked of a live camera, its samples are taken at their own ticks still, and those that the
   longer interval leaves out are dropped as degraded.
6. Nothing that one camera does ends the thread of another, or its own before `stop`.
"""

import threading
from collections.abc import Callable

import structlog

from crow_daemon.capture.backoff import Backoff
from crow_daemon.capture.encoder import encode_jpeg, fitted
from crow_daemon.capture.ledger import Dropped
from crow_daemon.capture.sampler import Sampler
from crow_daemon.capture.source import FrameSink, Picture, Source, StreamInfo
from crow_daemon.capture.state import CameraMonitor, CameraSnapshot, CameraState
from crow_daemon.gate.activity import ActivityGate
from crow_daemon.gate.gate import LUMA_WIDTH, Gate, Luma
from crow_daemon.registry.camera import Camera, GateMode, Recording
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame

log = structlog.get_logger()

RECONNECT_S = (1.0, 60.0)  # first and longest wait
AUTH_RETRY_S = (30.0, 300.0)  # rarely: cameras lock accounts after a few wrong passwords
SETTLED_AFTER_S = 30.0  # a stream that ran so long starts the waits afresh when it is lost
_SINK_RETRY_S = 0.1
_SAME_FAILURE_LOG_S = 300.0  # a failure that repeats is logged this rarely, with how often it came


class CameraRunner:
    """The capture of one camera in one thread; started and stopped once."""

    def __init__(
        self,
        camera: Camera,
        open_source: Callable[[], Source],
        sink: FrameSink,
        clock: Clock,
        *,
        reconnect_s: tuple[float, float] = RECONNECT_S,
        auth_retry_s: tuple[float, float] = AUTH_RETRY_S,
    ) -> None:
        """`open_source` makes a fresh source for each attempt; the waits are first and longest, in seconds."""
        self.camera = camera
        self._open_source = open_source
        self._sink = sink
        self._clock = clock
        self._reconnect = Backoff(*reconnect_s)
        self._auth_retry = Backoff(*auth_retry_s)
        self._monitor = CameraMonitor(camera, clock)
        self._sampler = Sampler(camera.sample_interval_us)
        self._longer: Sampler | None = None  # replaced from other threads, used by the camera's own
        self._gate: Gate | None = ActivityGate(camera.heartbeat_s) if camera.gate is GateMode.ACTIVITY else None
        self._failures = _FailureLog(clock, log.bind(camera=camera.id))
        self._stop = threading.Event()
        self._source: Source | None = None
        self._thread = threading.Thread(target=self.run, name=f"camera {camera.id}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; returns at once."""
        self._stop.set()
        if source := self._source:
            source.stop()

    def follow_pace(self, asked_interval_ms: int) -> None:
        """Lets only the samples of a longer interval through, from any thread; 0: all.

        A recording takes no notice: it is read no faster than its frames are taken over.
        """
        if isinstance(self.camera.source, Recording) or asked_interval_ms == self._monitor.asked_interval_ms:
            return
        self._longer = Sampler(asked_interval_ms * 1000) if asked_interval_ms else None
        self._monitor.asked_interval_ms = asked_interval_ms

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def snapshot(self) -> CameraSnapshot:
        """What the camera is doing now."""
        return self._monitor.snapshot()

    def run(self) -> None:
        """Runs until `stop`, or until a recording is read to its end."""
        while not self._stop.is_set():
            began_s = self._clock.monotonic_s()
            try:
                self.run_once()
            except CrowError as error:
                wait_s = self._failed(error, self._clock.monotonic_s() - began_s)
            except Exception as error:  # a defect met by one camera must not end its thread silently
                log.exception("capture failed by a defect", camera=self.camera.id)
                wait_s = self._failed(CrowError(Kind.INTERNAL, "defect", f"a defect: {type(error).__name__}"), 0.0)
            else:
                break
            self._stop.wait(wait_s)
        self._monitor.stopped()

    def run_once(self) -> None:
        """One attempt: returns after `stop` or at the end of a recording, raises CrowError when it fails."""
        self._monitor.connecting()
        source = self._source = self._open_source()
        try:
            if self._stop.is_set():  # set before `stop` could know this source
                return
            stream = source.open()
            self._read(source, stream)
            if not self._stop.is_set():
                self._monitor.finished(self._sampler.ticks_until(stream.end_us) if stream.end_us else 0)
                log.info("recording read to its end", camera=self.camera.id)
        finally:
            self._source = None
            source.close()

    def _read(self, source: Source, stream: StreamInfo) -> None:
        live, jumps = False, 0
        for picture in source.pictures():
            if picture is None:
                self._monitor.damaged()
                continue
            if not live:
                live = True
                self._monitor.live(stream)
                log.info("camera is live", camera=self.camera.id, codec=stream.codec, size=_size(stream))
            if source.clock_jumps > jumps:
                log.warning("camera's time parted from ours; set anew", camera=self.camera.id)
                self._monitor.clock_jumped(source.clock_jumps - jumps)
                jumps = source.clock_jumps
            skipped = self._sampler.take(picture.capture_us)
            if skipped is not None:
                self._monitor.sampled(picture.capture_us, skipped)
                self._process(picture)

    def _process(self, picture: Picture) -> None:
        """Gives one sample its outcome."""
        longer = self._longer
        if longer is not None and longer.take(picture.capture_us) is None:
            self._monitor.dropped(Dropped.DEGRADED)
            return
        luma: Luma | None = None
        try:
            if self._gate is not None:
                luma = picture.luma(*fitted(picture.width, picture.height, LUMA_WIDTH))
                held = self._gate.judge(luma, picture.capture_us)
                if held is not None:
                    self._monitor.gated(held)
                    return
            frame = self._frame(picture)
        except CrowError as error:
            self._failures.note(error)
            self._monitor.dropped(Dropped.ENCODE_ERROR)
            return
        refusal = self._offer(frame)
        if refusal is not None:
            self._monitor.dropped(refusal)
            return
        self._monitor.offered()
        if self._gate is not None and luma is not None:
            self._gate.sent(luma, picture.capture_us)

    def _frame(self, picture: Picture) -> Frame:
        width, height = fitted(picture.width, picture.height, self.camera.jpeg_long_side)
        jpeg = encode_jpeg(picture.bgr(width, height), self.camera.jpeg_quality)
        return Frame.of_picture(self.camera.id, picture.capture_us, picture.time_source, width, height, jpeg)

    def _offer(self, frame: Frame) -> Dropped | None:
        waits = isinstance(self.camera.source, Recording)
        while not self._sink.offer(frame):
            if not waits:
                return self._sink.refusal
            if self._stop.wait(_SINK_RETRY_S):
                return Dropped.STOPPED
        return None

    def _failed(self, error: CrowError, lasted_s: float) -> float:
        """Notes a failure and returns the seconds to wait before the next attempt."""
        state = self._monitor.failed(error)
        self._failures.note(error)
        if state is CameraState.AUTH_FAILED:
            return self._auth_retry.next_s()
        self._auth_retry.reset()
        if lasted_s >= SETTLED_AFTER_S:
            self._reconnect.reset()
        return self._reconnect.next_s()


class _FailureLog:
    """Logs a failure when it is a new one, and the same one now and then, with how often it came."""

    def __init__(self, clock: Clock, bound_log: structlog.stdlib.BoundLogger) -> None:
        self._clock = clock
        self._log = bound_log
        self._code = ""
        self._times = 0
        self._logged_s = 0.0

    def note(self, error: CrowError) -> None:
        self._times += 1
        now_s = self._clock.monotonic_s()
        if error.code == self._code and now_s - self._logged_s < _SAME_FAILURE_LOG_S:
            return
        self._log.warning("capture failed", code=error.code, reason=error.message, times=self._times)
        self._code, self._times, self._logged_s = error.code, 0, now_s


def _size(stream: StreamInfo) -> str:
    return f"{stream.width}x{stream.height}"
