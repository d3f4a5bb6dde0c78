"""The gates that are compared: ours as the daemon runs it, near rivals with the same heartbeat, pre-roll and ttl."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from footage import Bgr, Footage, Luma
from numpy.typing import NDArray

from crow_daemon.capture.encoder import fitted
from crow_daemon.capture.outcome import SENT, Dropped
from crow_daemon.capture.pipeline import SamplePipeline
from crow_daemon.gate.chain import GateChain
from crow_daemon.gate.gate import LUMA_WIDTH
from crow_daemon.gate.health import PictureHealth
from crow_daemon.registry.camera import Camera, GateMode, Recording
from crow_shared.frame import Frame, TimeSource

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US
HEARTBEAT_S, TTL_S = 60, 2

Sent = NDArray[np.bool_]  # per sample


class _Picture:
    """A sample as a source would bring it."""

    time_source = TimeSource.ARRIVAL
    clock_skew_us = None
    coded = None

    def __init__(self, pixels: Bgr, capture_us: int) -> None:
        self.pixels = pixels
        self.capture_us = capture_us
        self.height, self.width = pixels.shape[:2]

    def bgr(self, width: int, height: int) -> Bgr:
        return cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)

    def luma(self, width: int, height: int) -> Luma:
        return cv2.cvtColor(self.bgr(width, height), cv2.COLOR_BGR2GRAY)


class _Told:
    """Takes every frame, and notes what becomes of each sample."""

    refusal = Dropped.OVERLOAD

    def __init__(self) -> None:
        self.outcomes: dict[int, str] = {}
        self.alerts: list[str | None] = []

    def offer(self, _frame: Frame) -> bool:
        return True

    def sampled(self, capture_us: int, _skipped_ticks: int, _clock_skew_us: int | None) -> None:
        self.outcomes[capture_us] = ""

    def outcome(self, capture_us: int, outcome: str) -> None:
        self.outcomes[capture_us] = outcome

    def alert(self, word: str | None) -> None:
        self.alerts.append(word)


def activity(footage: Footage) -> Sent:
    """The daemon's own pipeline, with its defaults."""
    camera = Camera("till", "till", Recording(Path("/till.mp4"), START_US), gate=GateMode.ACTIVITY)
    told: Any = _Told()
    pipeline = SamplePipeline(camera, told, told, _raise, threading.Event())
    for second, pixels in enumerate(footage.samples):
        pipeline.take(_Picture(pixels, START_US + second * SECOND_US))
    pipeline.settle()
    return np.array([outcome == SENT for outcome in told.outcomes.values()])


def judge_alone(lumas: list[Luma]) -> None:
    """The parts of our gate that work on every sample, without all that is around them."""
    gate, health = GateChain(HEARTBEAT_S, TTL_S, people_only=False), PictureHealth()
    for second, luma in enumerate(lumas):
        at_us = START_US + second * SECOND_US
        if gate.judge(_Sight(luma), at_us, health.look(luma, at_us)).held is None:
            gate.sent(luma, at_us)


class _Sight:
    """A sample for the gate alone."""

    visible = None

    def __init__(self, luma: Luma) -> None:
        self.luma = luma

    def somebody(self) -> bool:
        return False


def frame_difference(footage: Footage) -> Sent:
    """The difference from the sample before: over 25 grey levels in half a per cent of the pixels."""
    smooth = [cv2.GaussianBlur(luma, (5, 5), 0) for luma in lumas(footage)]
    active = [False]
    for before, after in pairwise(smooth):
        active.append(bool((cv2.absdiff(before, after) > 25).mean() > 0.005))
    return _around(active)


def mog2(footage: Footage) -> Sent:
    """OpenCV's background model with its defaults: foreground in half a per cent of the pixels, less specks."""
    background = cv2.createBackgroundSubtractorMOG2()
    active = []
    for luma in lumas(footage):
        foreground = (background.apply(luma) > 200).astype(np.uint8)
        opened = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        active.append(bool(opened.mean() > 0.005))
    return _around(active)


def _around(active: list[bool]) -> Sent:
    """What is sent when these samples are active."""
    sent = np.zeros(len(active), bool)
    last_active, last_sent = -10 * HEARTBEAT_S, -10 * HEARTBEAT_S
    for second, is_active in enumerate(active):
        if is_active:
            if second and not sent[second - 1]:
                sent[second - 1] = True
            last_active = second
        if second - last_active <= TTL_S or second - last_sent >= HEARTBEAT_S:
            sent[second], last_sent = True, second
    return sent


def lumas(footage: Footage) -> list[Luma]:
    """The samples as gates look at them."""
    height, width = footage.samples[0].shape[:2]
    size = fitted(width, height, LUMA_WIDTH)
    scaled = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) for pixels in footage.samples)
    return [cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) for pixels in scaled]


def _raise(error: Exception) -> None:
    raise error
