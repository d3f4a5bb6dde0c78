"""What becomes of the pictures of one camera: sampled, judged, coded, offered. Used by one thread.

Invariants
1. Every sample has exactly one outcome: sent, gated or dropped with a reason. What was due and did not become a sample
   is the monitor's to reckon.
2. The gate compares with what was sent: it learns of a sample only after the sink took it.
3. A live camera never waits for the sink. A recording does: it can be read later, a moment cannot.
4. While a longer interval is asked of a live camera, its samples are taken at their own ticks still, and those that the
   longer interval leaves out are dropped as degraded.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

from crow_daemon.capture.encoder import encode_jpeg, fitted
from crow_daemon.capture.ledger import SENT, Dropped
from crow_daemon.capture.monitor import Monitor
from crow_daemon.capture.sampler import Sampler
from crow_daemon.capture.source import FrameSink, Picture
from crow_daemon.gate.activity import ActivityGate
from crow_daemon.gate.gate import LUMA_WIDTH, Gate, Luma
from crow_daemon.registry.camera import Camera, GateMode, Recording
from crow_shared.errors import CrowError
from crow_shared.frame import Frame

_SINK_RETRY_S = 0.1


class SamplePipeline:
    """The pipeline of one camera; it outlives reconnects."""

    def __init__(
        self,
        camera: Camera,
        sink: FrameSink,
        monitor: Monitor,
        note_failure: Callable[[CrowError], None],
        stop: threading.Event,
    ) -> None:
        """`note_failure` is told why a sample could not be coded; `stop` ends the wait of a recording for the sink."""
        self._camera = camera
        self._sink = sink
        self._monitor = monitor
        self._note_failure = note_failure
        self._stop = stop
        self._sampler = Sampler(camera.sample_interval_us)
        self._longer: Sampler | None = None  # replaced from other threads, used by the camera's own
        self._gate: Gate | None = ActivityGate(camera.heartbeat_s) if camera.gate is GateMode.ACTIVITY else None

    def follow_pace(self, asked_interval_ms: int) -> None:
        """Lets only the samples of a longer interval through, from any thread; 0: all.

        A recording takes no notice: it is read no faster than its frames are taken over.
        """
        if not isinstance(self._camera.source, Recording):
            self._longer = Sampler(asked_interval_ms * 1000) if asked_interval_ms else None

    def take(self, picture: Picture) -> None:
        """The next picture of the stream."""
        skipped = self._sampler.take(picture.capture_us)
        if skipped is None:
            return
        self._monitor.sampled(picture.capture_us, skipped)
        self._process(picture)

    def ticks_until(self, end_us: int) -> int:
        """The samples that are due between the last one and `end_us`, the end of a recording."""
        return self._sampler.ticks_until(end_us)

    def _process(self, picture: Picture) -> None:
        """Gives one sample its outcome."""
        at_us, longer = picture.capture_us, self._longer
        if longer is not None and longer.take(at_us) is None:
            self._monitor.outcome(at_us, Dropped.DEGRADED)
            return
        luma: Luma | None = None
        try:
            if self._gate is not None:
                luma = picture.luma(*fitted(picture.width, picture.height, LUMA_WIDTH))
                held = self._gate.judge(luma, at_us)
                if held is not None:
                    self._monitor.outcome(at_us, held)
                    return
            frame = self._frame(picture)
        except CrowError as error:
            self._note_failure(error)
            self._monitor.outcome(at_us, Dropped.ENCODE_ERROR)
            return
        refusal = self._offer(frame)
        self._monitor.outcome(at_us, refusal or SENT)
        if refusal is None and self._gate is not None and luma is not None:
            self._gate.sent(luma, at_us)

    def _frame(self, picture: Picture) -> Frame:
        times = (self._camera.id, picture.capture_us, picture.time_source)
        coded = picture.coded
        if coded is not None:
            frame = Frame.of_picture(*times, coded.width, coded.height, coded.payload, coded.encoding)
        else:
            width, height = fitted(picture.width, picture.height, self._camera.jpeg_long_side)
            jpeg = encode_jpeg(picture.bgr(width, height), self._camera.jpeg_quality)
            frame = Frame.of_picture(*times, width, height, jpeg)
        return replace(frame, clock_skew_us=picture.clock_skew_us)

    def _offer(self, frame: Frame) -> Dropped | None:
        waits = isinstance(self._camera.source, Recording)
        while not self._sink.offer(frame):
            if not waits:
                return self._sink.refusal
            if self._stop.wait(_SINK_RETRY_S):
                return Dropped.STOPPED
        return None
