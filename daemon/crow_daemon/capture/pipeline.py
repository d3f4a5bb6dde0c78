"""What becomes of the pictures of one camera: sampled, judged, coded, offered. Used by one thread.

Invariants
1. Every sample has exactly one outcome: sent, gated or dropped with a reason. What was due and did not become a sample
   is the monitor's to reckon.
2. The gate compares with what was sent: it learns of a sample only after the sink took it.
3. A live camera never waits for the sink. A recording does: it can be read later, a moment cannot.
4. While a longer interval is asked of a live camera, its samples are taken at their own ticks still, and those that the
   longer interval leaves out are dropped as degraded.
5. With a pre-roll, the last sample that the gate held back is kept until the next one was judged, or `settle`: its
   outcome is known only then. When activity begins it goes out first, so frames leave in the order of capture. If
   something stirred in it already, so does the one before it. No more than two are ever kept.
6. What is to be hidden is hidden in every frame: see `privacy`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import structlog

from crow_daemon.capture.encoder import encode_jpeg
from crow_daemon.capture.monitor import Monitor
from crow_daemon.capture.outcome import SENT, Dropped
from crow_daemon.capture.sampler import Sampler
from crow_daemon.capture.sight import SampleSight
from crow_daemon.capture.source import FrameSink, Picture
from crow_daemon.detect.port import DETECTOR_FAILED, PersonDetector
from crow_daemon.gate.chain import GateChain
from crow_daemon.gate.gate import Alert, GateReason
from crow_daemon.gate.health import PictureHealth
from crow_daemon.privacy.privacy import Privacy
from crow_daemon.registry.camera import Camera, GateMode, Recording
from crow_shared.errors import CrowError
from crow_shared.frame import Frame

log = structlog.get_logger()

_SINK_RETRY_S = 0.1
_PRE_ROLL_SAMPLES = 2
_PRE_ROLL_INTERVALS = 2.5  # a longer distance, and samples were missing between


@dataclass(frozen=True, slots=True)
class _Held:
    """A sample that the gate held back, and why."""

    sight: SampleSight
    reason: GateReason

    @property
    def at_us(self) -> int:
        return self.sight.picture.capture_us


class SamplePipeline:
    """The pipeline of one camera; it outlives reconnects."""

    def __init__(
        self,
        camera: Camera,
        sink: FrameSink,
        monitor: Monitor,
        note_failure: Callable[[CrowError], None],
        stop: threading.Event,
        detector: PersonDetector | None = None,
    ) -> None:
        """`note_failure` is told why a sample could not be coded; `stop` ends the wait of a recording for the sink.

        Without a detector, activity stands in where people are to be sent, and movement where they are to be blurred.
        """
        self._camera = camera
        self._sink = sink
        self._monitor = monitor
        self._note_failure = note_failure
        self._stop = stop
        self._detector = detector
        self._sampler = Sampler(camera.sample_interval_us)
        self._longer: Sampler | None = None  # replaced from other threads, used by the camera's own
        self._privacy = Privacy(camera, has_detector=detector is not None)
        self._health = PictureHealth()
        self._alert: Alert | None = None
        self._gate: GateChain | None = None
        if camera.gate is not GateMode.OFF:
            people_only = camera.gate is GateMode.PERSON and detector is not None
            self._gate = GateChain(camera.heartbeat_s, camera.motion_ttl_s, people_only=people_only)
        self._held: list[_Held] = []  # oldest first
        if detector is None and (camera.gate is GateMode.PERSON or self._privacy.blurs):
            log.warning("no person detector is set: movement stands in for people", camera=camera.id)

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
        at_us, longer = picture.capture_us, self._longer
        self._monitor.sampled(at_us, skipped, picture.clock_skew_us)
        if longer is not None and longer.take(at_us) is None:
            self._monitor.outcome(at_us, Dropped.DEGRADED)
            return
        sight = SampleSight(picture, self._camera.jpeg_long_side, self._privacy.masks, self._detector)
        try:
            self._judge(sight)
        except CrowError as error:
            self.settle()
            self._drop(sight, error)

    def settle(self) -> None:
        """No sample follows for now: those that were kept get their outcome."""
        self._let_go_all_but(0)

    def ticks_until(self, end_us: int) -> int:
        """The samples that are due between the last one and `end_us`, the end of a recording."""
        return self._sampler.ticks_until(end_us)

    def _judge(self, sight: SampleSight) -> None:
        """Gives a sample its outcome, or keeps it as the pre-roll of the next one."""
        at_us = sight.picture.capture_us
        self._watch(sight)
        self._privacy.look(sight)
        if self._gate is None:
            self._send(sight)
            return
        verdict = self._gate.judge(sight, at_us, self._alert)
        if verdict.begins:
            self._send_pre_roll(at_us)
        if verdict.held is not None and self._camera.pre_roll:
            self._let_go_all_but(_PRE_ROLL_SAMPLES - 1 if verdict.stirs else 0)
            self._held.append(_Held(sight, verdict.held))
            return
        self.settle()
        if verdict.held is None:
            self._send(sight)
        else:
            self._monitor.outcome(at_us, verdict.held)

    def _let_go_all_but(self, kept: int) -> None:
        while len(self._held) > kept:
            held = self._held.pop(0)
            self._monitor.outcome(held.at_us, held.reason)

    def _watch(self, sight: SampleSight) -> None:
        """Tells of what is wrong with the picture, where it is decoded anyway."""
        if self._gate is None and sight.picture.coded is not None and not self._privacy.needs_pixels:
            return
        alert, before = self._health.look(sight.luma, sight.picture.capture_us, sight.visible), self._alert
        failure = None if self._gate is None else self._gate.detector_failure
        if alert is None and failure is not None:
            alert = Alert.NO_DETECTOR
        if alert is before:
            return
        self._alert = alert
        self._monitor.alert(alert)
        if failure is not None and alert is Alert.NO_DETECTOR:
            camera, reason = self._camera.id, failure.message
            log.warning("the person detector fails: activity stands in for people", camera=camera, reason=reason)
        elif alert is not None:
            log.warning("something is wrong with what the camera shows", camera=self._camera.id, alert=alert)
        else:
            log.info("the alert has ended", camera=self._camera.id, alert=before)

    def _send_pre_roll(self, at_us: int) -> None:
        """What was kept goes out, as far as no sample is missing between it and the one of now."""
        longest_us = _PRE_ROLL_INTERVALS * self._camera.sample_interval_us
        times_us = [held.at_us for held in self._held] + [at_us]
        for number, (before_us, after_us) in enumerate(pairwise(times_us), start=1):
            if not 0 < after_us - before_us <= longest_us:
                self._let_go_all_but(len(times_us) - 1 - number)
        while self._held:
            sight = self._held.pop(0).sight
            try:
                self._send(sight)
            except CrowError as error:
                self._drop(sight, error)

    def _send(self, sight: SampleSight) -> None:
        refusal = self._offer(self._frame(sight))
        at_us = sight.picture.capture_us
        self._monitor.outcome(at_us, refusal or SENT)
        if refusal is None and self._gate is not None:
            self._gate.sent(sight.luma, at_us)

    def _drop(self, sight: SampleSight, error: CrowError) -> None:
        self._note_failure(error)
        reason = Dropped.DETECT_ERROR if error.code == DETECTOR_FAILED else Dropped.ENCODE_ERROR
        self._monitor.outcome(sight.picture.capture_us, reason)

    def _frame(self, sight: SampleSight) -> Frame:
        picture = sight.picture
        times = (self._camera.id, picture.capture_us, picture.time_source)
        coded = picture.coded
        if coded is not None and not self._privacy.needs_pixels:
            frame = Frame.of_picture(*times, coded.width, coded.height, coded.payload, coded.encoding)
            return replace(frame, clock_skew_us=picture.clock_skew_us)
        bgr = self._privacy.hidden(sight)
        height, width = bgr.shape[:2]
        frame = Frame.of_picture(*times, width, height, encode_jpeg(bgr, self._camera.jpeg_quality))
        masked, blurred = bool(self._privacy.masks), self._privacy.blurs
        return replace(frame, clock_skew_us=picture.clock_skew_us, masked=masked, blurred=blurred)

    def _offer(self, frame: Frame) -> Dropped | None:
        waits = isinstance(self._camera.source, Recording)
        while not self._sink.offer(frame):
            if not waits:
                return self._sink.refusal
            if self._stop.wait(_SINK_RETRY_S):
                return Dropped.STOPPED
        return None
