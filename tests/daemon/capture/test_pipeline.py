"""The pipeline on a quarter of an hour of shop: every sample has one outcome, frames leave in the order of capture."""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from crow_daemon.capture.encoder import Bgr
from crow_daemon.capture.outcome import SENT, Dropped, Outcome
from crow_daemon.capture.pipeline import SamplePipeline
from crow_daemon.capture.source import Coded, Picture
from crow_daemon.detect.port import DETECTOR_FAILED, Person
from crow_daemon.gate.gate import Alert, GateReason, Luma
from crow_daemon.privacy.region import Region
from crow_daemon.registry.camera import Blur, Camera, GateMode, Recording
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding, Frame, TimeSource
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.view import AISLE

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US
QUARTER_S = 900
SHOP = Renderer(planned_scene(AISLE, seed=7, seconds=QUARTER_S), 320, 180)
EMPTY_S = 50  # within the empty last third of the first minute


class Shown:
    """A picture of the shop; `coded` is what a keyframe would bring."""

    time_source = TimeSource.ARRIVAL
    clock_skew_us = None

    def __init__(self, bgr: Bgr, capture_us: int, coded: Coded | None = None) -> None:
        self.pixels = bgr
        self.capture_us = capture_us
        self.coded = coded
        self.height, self.width = bgr.shape[:2]

    def bgr(self, width: int, height: int) -> Bgr:
        return cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)

    def luma(self, width: int, height: int) -> Luma:
        return cv2.cvtColor(self.bgr(width, height), cv2.COLOR_BGR2GRAY).astype(np.uint8)


class Unusable(Shown):
    """Decodes to nothing."""

    def bgr(self, width: int, height: int) -> Bgr:
        raise CrowError(Kind.CORRUPT, "picture_unusable", "no picture")


class Told:
    """A monitor and a sink: keeps what it is told, in order."""

    def __init__(self) -> None:
        self.sampled_us: list[int] = []
        self.outcomes: dict[int, Outcome] = {}
        self.frames: list[Frame] = []
        self.alerts: list[str | None] = []
        self.failures: list[CrowError] = []
        self.refuses = False
        self.refusal = Dropped.SPOOL_FULL

    def sampled(self, capture_us: int, skipped_ticks: int, clock_skew_us: int | None = None) -> None:
        self.sampled_us.append(capture_us)

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        assert capture_us not in self.outcomes, "a second outcome"
        assert capture_us in self.sampled_us
        self.outcomes[capture_us] = outcome

    def alert(self, word: str | None) -> None:
        self.alerts.append(word)

    def offer(self, frame: Frame) -> bool:
        if not self.refuses:
            self.frames.append(frame)
        return not self.refuses

    def ended(self) -> list[Outcome]:
        """The outcomes, in the order of the samples; each has one."""
        return [self.outcomes[at_us] for at_us in self.sampled_us]

    def sent_s(self) -> list[int]:
        return [(frame.capture_us - START_US) // SECOND_US for frame in self.frames]


def camera(**fields: Any) -> Camera:
    return Camera(**{"id": "till", "name": "Till", "source": Recording(Path("/till.mp4"), START_US)} | fields)


def pipeline(told: Told, detector: Any = None, **fields: Any) -> SamplePipeline:
    stopped = threading.Event()
    stopped.set()  # a recording would wait for a sink that refuses
    monitor: Any = told
    return SamplePipeline(camera(**fields), told, monitor, told.failures.append, stopped, detector)


def show(piped: SamplePipeline, seconds: "range | list[int]") -> None:
    for second in seconds:
        picture: Picture = Shown(SHOP.picture(second), START_US + second * SECOND_US)
        piped.take(picture)


@pytest.mark.parametrize("mode", GateMode)
@pytest.mark.parametrize("pre_roll", [True, False])
def test_over_a_quarter_of_an_hour_every_sample_has_one_outcome_and_frames_leave_in_order(
    mode: GateMode, pre_roll: bool
) -> None:
    told = Told()
    piped = pipeline(told, SomebodyBySize(), gate=mode, pre_roll=pre_roll)
    show(piped, range(QUARTER_S))
    piped.settle()
    assert len(told.ended()) == QUARTER_S
    captured = [frame.capture_us for frame in told.frames]
    assert captured == sorted(set(captured))
    assert captured == [at_us for at_us in told.sampled_us if told.outcomes[at_us] == SENT]
    assert (len(captured) == QUARTER_S) == (mode is GateMode.OFF)
    assert told.alerts == []
    assert max(np.diff(captured)) <= 60 * SECOND_US, "a heartbeat at least"


class SomebodyBySize:
    """A detector that knows the empty shop, and sees somebody where enough differs from it."""

    confidence = 0.5

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        differs = cv2.absdiff(bgr, SHOP.empty()).max(axis=2) > 40
        rows, columns = np.nonzero(differs)
        if len(rows) < 60:
            return ()
        height, width = differs.shape
        region = Region(
            columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height
        )
        return (Person(region, 0.9),)


class Broken:
    confidence = 0.5

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        raise CrowError(Kind.INTERNAL, DETECTOR_FAILED, "no answer")


class Mended(SomebodyBySize):
    """One that an operator repairs."""

    works = False

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        return super().find(bgr) if self.works else Broken().find(bgr)


def first_arrival_s() -> int:
    """The first second with most of somebody in the picture after the first minute."""
    differs = (cv2.absdiff(SHOP.picture(second), SHOP.empty()).max(axis=2) > 40 for second in range(60, 120))
    return 60 + next(number for number, pixels in enumerate(differs) if pixels.mean() > 0.01)


def test_the_sample_before_activity_began_is_sent_first_and_counted_as_sent() -> None:
    arrival_s = first_arrival_s()
    sent = {}
    for pre_roll in (True, False):
        told = Told()
        piped = pipeline(told, gate=GateMode.ACTIVITY, pre_roll=pre_roll)
        show(piped, range(EMPTY_S, arrival_s + 4))
        sent[pre_roll] = told.sent_s()
        began_s = next(second for second in sent[pre_roll] if second > EMPTY_S)
        assert began_s == (arrival_s - 1 if pre_roll else arrival_s)
        assert told.outcomes[START_US + began_s * SECOND_US] == SENT
    assert [second for second in sent[True] if second not in sent[False]] == [arrival_s - 1]


def with_edge(second: int, columns: int) -> Shown:
    """The empty shop, and somebody who is to be seen by so many columns at the left."""
    pixels = cv2.add(SHOP.empty(), np.random.default_rng(second).integers(0, 3, (180, 320, 3)).astype(np.uint8))
    pixels[60:100, :columns] = 0
    return Shown(pixels, START_US + second * SECOND_US)


@pytest.mark.parametrize(("columns", "sent_s"), [((0, 0, 0, 20), [0, 2, 3]), ((0, 0, 2, 20), [0, 1, 2, 3])])
def test_where_something_stirred_in_the_sample_before_the_one_before_it_is_sent_too(
    columns: tuple[int, ...], sent_s: list[int]
) -> None:
    told = Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    for second, wide in enumerate(columns):
        piped.take(with_edge(second, wide))
    assert told.sent_s() == sent_s
    assert len(told.ended()) == 4


def test_what_stirs_for_long_is_kept_for_two_samples_only() -> None:
    told = Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    for second in range(20):
        piped.take(with_edge(second, 2 if second else 0))
    assert len(told.outcomes) == 18
    piped.settle()
    assert told.ended() == [SENT, *[GateReason.NO_ACTIVITY] * 19]


def test_a_sample_long_before_is_no_pre_roll() -> None:
    arrival_s, told = first_arrival_s(), Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    show(piped, [EMPTY_S, EMPTY_S + 1, arrival_s + 2])
    assert told.sent_s() == [EMPTY_S, arrival_s + 2]
    assert told.outcomes[START_US + (EMPTY_S + 1) * SECOND_US] is GateReason.NO_ACTIVITY


def test_what_is_kept_at_the_end_of_a_stream_has_its_outcome() -> None:
    told = Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    show(piped, [EMPTY_S, EMPTY_S + 1])
    assert len(told.outcomes) == 1
    piped.settle()
    piped.settle()
    assert told.ended() == [SENT, GateReason.NO_ACTIVITY]


def test_a_refused_pre_roll_and_a_refused_sample_are_both_dropped() -> None:
    arrival_s, told = first_arrival_s(), Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    show(piped, range(EMPTY_S, arrival_s))
    told.refuses = True
    show(piped, [arrival_s])
    assert told.ended()[-2:] == [Dropped.STOPPED, Dropped.STOPPED]


def test_a_sample_that_cannot_be_decoded_is_dropped_and_the_one_before_it_settled() -> None:
    told = Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY)
    show(piped, [EMPTY_S, EMPTY_S + 1])
    piped.take(Unusable(SHOP.empty(), START_US + (EMPTY_S + 2) * SECOND_US))
    assert told.ended() == [SENT, GateReason.NO_ACTIVITY, Dropped.ENCODE_ERROR]
    assert [error.code for error in told.failures] == ["picture_unusable"]


@pytest.mark.parametrize("gate", [GateMode.OFF, GateMode.PERSON])
def test_nothing_goes_out_unblurred_when_the_detector_fails(gate: GateMode) -> None:
    told = Told()
    show(pipeline(told, Broken(), gate=gate, blur=Blur.PEOPLE), range(3))
    assert set(told.ended()) == {Dropped.DETECT_ERROR}


def test_activity_stands_in_for_people_while_the_detector_fails_and_an_alert_says_so() -> None:
    arrival_s = first_arrival_s()
    seconds = range(arrival_s - 20, arrival_s + 10)
    ended, alerts = [], []
    for fields in ({"gate": GateMode.ACTIVITY}, {"gate": GateMode.PERSON, "detector": Broken()}):
        told = Told()
        show(pipeline(told, **fields), seconds)
        ended.append(told.ended())
        alerts.append(told.alerts)
    assert ended[0] == ended[1]
    assert SENT in ended[0][1:]
    assert alerts == [[], [Alert.NO_DETECTOR]]


def test_a_detector_that_works_again_decides_again() -> None:
    told, detector = Told(), Mended()
    piped = pipeline(told, detector, gate=GateMode.PERSON)
    show(piped, range(EMPTY_S, EMPTY_S + 4))
    detector.works = True
    show(piped, range(EMPTY_S + 4, EMPTY_S + 8))
    piped.settle()
    assert told.alerts == [Alert.NO_DETECTOR, None]
    assert told.ended()[-1] == GateReason.NO_PERSON


def test_an_alert_is_told_when_it_starts_and_ends_with_and_without_a_gate() -> None:
    for mode in (GateMode.OFF, GateMode.ACTIVITY):
        told = Told()
        piped = pipeline(told, gate=mode)
        still = SHOP.picture(EMPTY_S)
        for second in range(40):
            piped.take(Shown(still, START_US + second * SECOND_US))
        show(piped, [EMPTY_S + 1])
        piped.settle()
        assert told.alerts == [Alert.FROZEN, None]
        while_still = set(told.ended()[1:40])
        gated = {GateReason.DUPLICATE, GateReason.FROZEN}
        assert while_still == (gated if mode is GateMode.ACTIVITY else {SENT})


def before_a_wall(shop_s: int, at_s: int) -> Shown:
    """Who is in the shop at that second, before a bare wall."""
    picture = SHOP.picture(shop_s)
    passing = cv2.absdiff(picture, SHOP.empty()).max(axis=2) > 40
    wall = np.random.default_rng(at_s).normal(150, 2, picture.shape).astype(np.uint8)
    return Shown(np.where(passing[..., None], picture, wall), START_US + at_s * SECOND_US)


def test_who_comes_into_a_view_that_seems_covered_is_sent_and_so_are_heartbeats() -> None:
    arrival_s, told = first_arrival_s(), Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY, heartbeat_s=10, pre_roll=False)
    show(piped, range(EMPTY_S))
    for at_s in range(EMPTY_S, EMPTY_S + 60):
        piped.take(before_a_wall(EMPTY_S, at_s))
    assert told.alerts == [Alert.COVERED]
    assert max(np.diff([second for second in told.sent_s() if second >= EMPTY_S])) == 10
    piped.take(before_a_wall(arrival_s, EMPTY_S + 60))
    piped.take(before_a_wall(arrival_s + 1, EMPTY_S + 61))
    assert told.alerts == [Alert.COVERED]
    assert told.sent_s()[-2:] == [EMPTY_S + 60, EMPTY_S + 61]


KEYFRAME = Coded(Encoding.H264, b"\0\0\0\1 a keyframe", 320, 180)


def test_a_keyframe_goes_out_as_it_is_and_undecoded_without_gate_and_privacy() -> None:
    told = Told()
    pipeline(told).take(Unusable(SHOP.empty(), START_US, KEYFRAME))
    (frame,) = told.frames
    assert (frame.encoding, frame.payload, frame.masked, frame.blurred) == (
        Encoding.H264,
        KEYFRAME.payload,
        False,
        False,
    )


@pytest.mark.parametrize(
    "fields",
    [{"masks": (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)),)}, {"blur": Blur.PEOPLE}],
    ids=["masks", "blur"],
)
def test_a_keyframe_is_never_sent_as_it_is_where_something_is_to_be_hidden(fields: dict[str, Any]) -> None:
    told = Told()
    pipeline(told, **fields).take(Shown(SHOP.empty(), START_US, KEYFRAME))
    (frame,) = told.frames
    assert frame.encoding is Encoding.JPEG
    assert (frame.masked, frame.blurred) == ("masks" in fields, "blur" in fields)


def test_what_cannot_be_hidden_is_not_sent() -> None:
    told = Told()
    masked = pipeline(told, masks=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)),))
    masked.take(Unusable(SHOP.empty(), START_US, KEYFRAME))
    assert (told.frames, told.ended()) == ([], [Dropped.ENCODE_ERROR])


def test_a_pre_roll_is_masked_and_blurred_like_any_other_frame() -> None:
    arrival_s, told = first_arrival_s(), Told()
    corner = ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3), (0.0, 0.3))
    piped = pipeline(told, SomebodyBySize(), gate=GateMode.ACTIVITY, blur=Blur.PEOPLE, masks=(corner,))
    show(piped, range(EMPTY_S, arrival_s + 1))
    assert told.sent_s()[-2:] == [arrival_s - 1, arrival_s]
    for frame in told.frames:
        pixels = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert (frame.masked, frame.blurred) == (True, True)
        assert pixels[:48, :88].max() <= 6


def test_without_a_detector_whatever_moves_is_blurred_and_the_rest_is_not() -> None:
    told = Told()
    piped = pipeline(told, blur=Blur.PEOPLE, jpeg_quality=95)
    for second in range(60):
        piped.take(with_edge(second, 0))
    striped = with_edge(60, 0)
    striped.pixels[40:140, 100:140] = np.tile(np.array([[0], [0], [250], [250]], np.uint8), (25, 40))[..., None]
    piped.take(striped)
    before, after = (cv2.imdecode(np.frombuffer(f.payload, np.uint8), cv2.IMREAD_GRAYSCALE) for f in told.frames[-2:])
    assert before is not None
    assert after is not None
    assert cv2.Laplacian(after[50:130, 105:135], cv2.CV_16S).std() < 3, "stripes are gone"
    assert np.abs(after[:, 200:].astype(int) - before[:, 200:]).max() < 20, "the rest is as before"
    assert told.frames[-1].blurred
    assert cv2.Laplacian(after[:, 200:], cv2.CV_16S).std() > 10


@pytest.mark.parametrize("fields", [{"gate": GateMode.PERSON}, {"blur": Blur.PEOPLE}, {}])
def test_that_movement_stands_in_for_people_is_said(fields: dict[str, Any]) -> None:
    for detector in (None, SomebodyBySize()):
        with capture_logs() as logs:
            pipeline(Told(), detector, **fields)
        assert bool(logs) == (bool(fields) and detector is None)


def test_activity_behind_a_mask_is_none() -> None:
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    told = Told()
    piped = pipeline(told, gate=GateMode.ACTIVITY, masks=(whole,))
    show(piped, range(60))
    piped.settle()
    assert told.ended() == [SENT, *[GateReason.DUPLICATE] * 59]
