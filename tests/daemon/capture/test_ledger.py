"""Every sample that was due is accounted for."""

import pytest
from camera_rig import rtsp_camera
from conftest import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.ledger import SENT, Dropped, Missed, Outcome, Pace
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import CameraMonitor, CameraState
from crow_daemon.gate.gate import GateReason
from crow_shared.errors import CrowError, Kind

STREAM = StreamInfo("h264", 320, 240, 10.0)
DOWN = CrowError(Kind.UNAVAILABLE, "stream_lost", "it ended")


@given(st.floats(0, 5), st.lists(st.floats(-0.4, 0.4), min_size=1, max_size=100))
def test_jitter_is_not_taken_for_a_hole(first_s: float, jitter: list[float]) -> None:
    pace = Pace(1.0, 0.0)
    assert pace.sample(first_s) == int(first_s)
    base = [first_s + number + 1 for number in range(len(jitter))]
    assert sum(pace.sample(at_s + shift) for at_s, shift in zip(base, jitter, strict=True)) == 0


@given(st.floats(0.1, 60), st.lists(st.floats(0.01, 500), max_size=30))
def test_what_is_overdue_is_the_time_times_the_rate_however_often_one_looks(
    interval_s: float, looks: list[float]
) -> None:
    pace, now_s, given_up = Pace(interval_s, 0.0), 0.0, 0
    for step_s in looks:
        now_s += step_s
        given_up += pace.overdue(now_s)
    assert given_up == int(now_s / interval_s)


def monitor(clock: ManualClock) -> CameraMonitor:
    return CameraMonitor(rtsp_camera("rtsp://camera/1", sample_interval_ms=1000), clock)


def test_an_outage_is_missed_for_its_reason_and_no_sample_is_counted_twice(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    for _ in range(10):
        camera.sampled(clock.now_us(), 0)
        camera.outcome(0, SENT)
        clock.advance(1)
    camera.failed(DOWN)
    clock.advance(20)
    assert camera.snapshot().counters.missed == {Missed.CAMERA_DOWN: 20}
    camera.connecting()
    clock.advance(5)
    camera.live(STREAM)
    for _ in range(5):
        camera.sampled(clock.now_us(), 0)
        camera.outcome(0, SENT)
        clock.advance(1)
    counters = camera.snapshot().counters
    assert counters.missed == {Missed.CAMERA_DOWN: 25}
    assert (counters.expected, counters.sampled) == (40, 15)


def test_outcomes_add_up_to_the_samples(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    outcomes: list[Outcome] = [SENT, GateReason.NO_ACTIVITY, Dropped.OVERLOAD, Dropped.ENCODE_ERROR, SENT]
    for outcome in outcomes:
        camera.sampled(clock.now_us(), 0)
        camera.outcome(clock.now_us(), outcome)
        clock.advance(1)
    counters = camera.snapshot().counters
    assert (counters.sampled, counters.offered) == (5, 2)
    assert counters.gated == {GateReason.NO_ACTIVITY: 1}
    assert counters.dropped == {Dropped.OVERLOAD: 1, Dropped.ENCODE_ERROR: 1}


def test_damaged_pictures_explain_the_samples_that_they_cost(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    camera.sampled(clock.now_us(), 0)
    camera.outcome(0, SENT)
    for _ in range(3):
        clock.advance(1)
        camera.damaged()
    clock.advance(1)
    camera.sampled(clock.now_us(), 0)
    camera.outcome(0, SENT)
    assert camera.snapshot().counters.missed == {Missed.DECODE_ERROR: 3}


def test_a_jump_of_the_wall_clock_changes_no_count(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    for number in range(10):
        clock.jump(3600 if number == 5 else 0)
        camera.sampled(clock.now_us(), 3600 if number == 5 else 0)
        camera.outcome(0, SENT)
        clock.advance(1)
    assert camera.snapshot().counters.expected == 10


@pytest.mark.parametrize(
    ("kind", "code", "state"),
    [
        (Kind.UNAUTHENTICATED, "auth_failed", CameraState.AUTH_FAILED),
        (Kind.UNAVAILABLE, "unreachable", CameraState.UNREACHABLE),
        (Kind.TIMEOUT, "camera_timeout", CameraState.UNREACHABLE),
        (Kind.TIMEOUT, "stream_stalled", CameraState.STALLED),
        (Kind.UNSUPPORTED, "codec_unsupported", CameraState.UNSUPPORTED),
        (Kind.INVALID, "redirect_refused", CameraState.REFUSED),
        (Kind.NOT_FOUND, "stream_not_found", CameraState.REFUSED),
    ],
)
def test_each_failure_has_its_state(kind: Kind, code: str, state: CameraState, clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.failed(CrowError(kind, code, "why"))
    snapshot = camera.snapshot()
    assert (snapshot.state, snapshot.last_error_code, snapshot.last_error) == (state, code, "why")
