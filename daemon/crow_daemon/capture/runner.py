"""One camera's thread: connects, reads, gives the pictures to the pipeline; and tries again for ever when that fails.

Invariants
1. Every wait ends when `stop` is called; a read that hangs ends by its time-out.
2. Nothing that one camera does ends the thread of another, or its own before `stop`.
"""

import gc
import threading
from collections.abc import Callable
from dataclasses import replace

import structlog

from crow_daemon.capture.backoff import AFTER_REFUSED_LOGIN_S, Backoff
from crow_daemon.capture.checkpoint import Checkpoint, Phase
from crow_daemon.capture.choice import MODE_CHANGED
from crow_daemon.capture.monitor import Monitor
from crow_daemon.capture.pipeline import SamplePipeline
from crow_daemon.capture.source import FrameSink, Source, StreamInfo
from crow_daemon.capture.state import CameraState, state_of
from crow_daemon.detect.port import PersonDetector
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

RECONNECT_S = (1.0, 60.0)  # first and longest wait
SETTLED_AFTER_S = 30.0  # a stream that ran so long starts the waits afresh when it is lost
_SAME_FAILURE_LOG_S = 300.0  # a failure that repeats is logged this rarely, with how often it came


class CameraRunner:
    """The capture of one camera in one thread; started and stopped once."""

    def __init__(
        self,
        camera: Camera,
        open_source: Callable[[], Source],
        sink: FrameSink,
        monitor: Monitor,
        clock: Clock,
        checkpoint: Checkpoint | None = None,
        detector: PersonDetector | None = None,
        *,
        reconnect_s: tuple[float, float] = RECONNECT_S,
        first_in_s: float = 0.0,
    ) -> None:
        """`open_source` makes a fresh source for each attempt, the first one in `first_in_s` seconds.

        `reconnect_s` are the first and the longest wait between attempts.
        """
        self.camera = camera
        self.checkpoint = checkpoint or Checkpoint(camera, clock)
        self._open_source = open_source
        self._clock = clock
        self._reconnect = Backoff(*reconnect_s)
        self._first_in_s = first_in_s
        self._monitor = monitor
        self._failures = _FailureLog(clock, log.bind(camera=camera.id))
        self._stop = threading.Event()
        self._pipeline = SamplePipeline(camera, sink, self._monitor, self._failures.note, self._stop, detector)
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
        self._pipeline.follow_pace(asked_interval_ms)

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def has_picture_in_hand(self) -> bool:
        """Whether the thread is at work for a picture, rather than waiting for one."""
        return self.checkpoint.phase is Phase.PROCESSING

    def run(self) -> None:
        """Runs until `stop`, or until a recording is read to its end."""
        self._stop.wait(self._first_in_s)
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
            self.checkpoint.passed(Phase.WAITING)
            self._stop.wait(wait_s)
        self.checkpoint.passed(Phase.WAITING)
        self._monitor.stopped()

    def run_once(self) -> None:
        """One attempt: returns after `stop` or at the end of a recording, raises CrowError when it fails."""
        self._monitor.connecting()
        source = self._source = self._open_source()
        try:
            if self._stop.is_set():  # set before `stop` could know this source
                return
            self.checkpoint.passed(Phase.OPENING)
            stream = source.open()
            self._read(source, stream)
            if not self._stop.is_set():
                self._monitor.finished(self._pipeline.ticks_until(stream.end_us) if stream.end_us else 0)
                log.info("recording read to its end", camera=self.camera.id)
        finally:
            self._source = None
            self.checkpoint.passed(Phase.CLOSING)
            source.close()
            gc.collect()  # decoders hang in cycles, and Python does not know how large they are

    def _read(self, source: Source, stream: StreamInfo) -> None:
        try:
            self._take_pictures(source, stream)
        finally:
            self._pipeline.settle()

    def _take_pictures(self, source: Source, stream: StreamInfo) -> None:
        live, jumps = False, 0
        self.checkpoint.passed(Phase.READING)
        for picture in source.pictures():
            self.checkpoint.passed(Phase.PROCESSING)
            if picture is None:
                self._monitor.damaged()
            else:
                if not live:
                    live = True
                    self._monitor.live(stream)
                    log.info("camera is live", camera=self.camera.id, codec=stream.codec, size=_size(stream))
                if source.clock_jumps > jumps:
                    log.warning("camera's time parted from ours; set anew", camera=self.camera.id)
                    self._monitor.clock_jumped(source.clock_jumps - jumps)
                    jumps = source.clock_jumps
                if source.why != stream.why:
                    stream = replace(stream, why=source.why)
                    self._monitor.live(stream)
                self._pipeline.take(picture)
            self.checkpoint.passed(Phase.READING)

    def _failed(self, error: CrowError, lasted_s: float) -> float:
        """Notes a failure and returns the seconds to wait before the next attempt."""
        if error.code == MODE_CHANGED:  # no failure: another way of reading fits now
            log.info("camera is read in another way", camera=self.camera.id, reason=error.message)
            return 0.0
        self._monitor.failed(error)
        self._failures.note(error)
        if state_of(error) is CameraState.AUTH_FAILED:
            return AFTER_REFUSED_LOGIN_S
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
