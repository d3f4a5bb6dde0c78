"""What a camera does, as told by its runner, and the samples that this explains."""

import pytest
from camera_rig import rtsp_camera
from conftest import ManualClock

from crow_daemon.capture.backoff import AFTER_REFUSED_LOGIN_S
from crow_daemon.capture.outcome import SENT, Dropped, Missed, Outcome
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import CameraMonitor, CameraState
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.book import Book
from crow_shared.clock import Moment
from crow_shared.errors import CrowError, Kind

STREAM = StreamInfo("h264", 320, 240, 10.0)
DOWN = CrowError(Kind.UNAVAILABLE, "stream_lost", "it ended")
REFUSED = CrowError(Kind.UNAUTHENTICATED, "auth_failed", "wrong password")
CRASH = CrowError(Kind.INTERNAL, "worker_crashed", "signal 11")


def monitor(clock: ManualClock) -> CameraMonitor:
    camera = rtsp_camera("rtsp://camera/1", sample_interval_ms=1000)
    return CameraMonitor(camera.id, Book().account(camera, Moment.now(clock)), clock)


def test_a_refused_login_is_awaited_by_whoever_reads_the_camera_next(clock: ManualClock) -> None:
    camera = monitor(clock)
    assert camera.await_login() == 0
    camera.failed(REFUSED)
    clock.advance(100)
    camera.failed(CRASH)
    assert camera.snapshot().state is CameraState.CRASHED
    assert camera.await_login() == AFTER_REFUSED_LOGIN_S - 100
    before = camera.snapshot()
    assert (before.state, before.last_error_code) == (CameraState.AUTH_FAILED, "auth_failed")
    clock.advance(AFTER_REFUSED_LOGIN_S - 100)
    missed = camera.snapshot().counters.dropped
    assert missed[Missed.AUTH_FAILED] >= AFTER_REFUSED_LOGIN_S - 101, "not for the crash"
    assert camera.await_login() == 0


def test_an_outage_is_missed_for_its_reason_and_no_sample_is_counted_twice(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    for _ in range(10):
        camera.sampled(clock.now_us(), 0)
        camera.outcome(clock.now_us(), SENT)
        clock.advance(1)
    camera.failed(DOWN)
    clock.advance(20)
    assert camera.snapshot().counters.dropped == {Missed.CAMERA_DOWN: 20}
    camera.connecting()
    clock.advance(5)
    camera.live(STREAM)
    for _ in range(5):
        camera.sampled(clock.now_us(), 0)
        camera.outcome(clock.now_us(), SENT)
        clock.advance(1)
    counters = camera.snapshot().counters
    assert counters.dropped == {Missed.CAMERA_DOWN: 25}
    assert (counters.expected, counters.sent) == (40, 15)


def test_outcomes_add_up_to_the_samples(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    outcomes: list[Outcome] = [SENT, GateReason.NO_ACTIVITY, Dropped.OVERLOAD, Dropped.ENCODE_ERROR, SENT]
    for outcome in outcomes:
        camera.sampled(clock.now_us(), 0)
        camera.outcome(clock.now_us(), outcome)
        clock.advance(1)
    counters = camera.snapshot().counters
    assert (counters.expected, counters.sent) == (5, 2)
    assert counters.gated == {GateReason.NO_ACTIVITY: 1}
    assert counters.dropped == {Dropped.OVERLOAD: 1, Dropped.ENCODE_ERROR: 1}


def test_damaged_pictures_explain_the_samples_that_they_cost(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    camera.sampled(clock.now_us(), 0)
    camera.outcome(clock.now_us(), SENT)
    for _ in range(3):
        clock.advance(1)
        camera.damaged()
    clock.advance(1)
    camera.sampled(clock.now_us(), 0)
    camera.outcome(clock.now_us(), SENT)
    assert camera.snapshot().counters.dropped == {Missed.DECODE_ERROR: 3}


def test_a_jump_of_the_wall_clock_changes_no_count(clock: ManualClock) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    for number in range(10):
        clock.jump(3600 if number == 5 else 0)
        camera.sampled(clock.now_us(), 3600 if number == 5 else 0)
        camera.outcome(clock.now_us(), SENT)
        clock.advance(1)
    assert camera.snapshot().counters.expected == 10


def test_a_worker_that_dies_takes_what_it_had_in_hand_and_what_is_due_until_its_successor_has_a_picture(
    clock: ManualClock,
) -> None:
    camera = monitor(clock)
    camera.live(STREAM)
    camera.sampled(clock.now_us(), 0)
    camera.failed(CRASH)
    clock.advance(3)
    camera.connecting()
    clock.advance(2)
    camera.live(STREAM)
    camera.sampled(clock.now_us(), 0)
    camera.outcome(clock.now_us(), SENT)
    counters = camera.snapshot().counters
    assert counters.dropped == {"worker_crashed": 1 + 4}
    assert (counters.expected, counters.sent) == (6, 1)


def test_what_a_worker_tells_late_counts_from_when_it_happened(clock: ManualClock) -> None:
    camera = monitor(clock)
    lost_at = Moment.now(clock)
    clock.advance(7)
    camera.failed(DOWN, lost_at)
    clock.advance(3)
    assert camera.snapshot().counters.dropped == {Missed.CAMERA_DOWN: 10}
    assert camera.snapshot().since_us == lost_at.wall_us


@pytest.mark.parametrize(
    ("kind", "code", "state"),
    [
        (Kind.UNAUTHENTICATED, "auth_failed", CameraState.AUTH_FAILED),
        (Kind.UNAVAILABLE, "unreachable", CameraState.UNREACHABLE),
        (Kind.TIMEOUT, "camera_timeout", CameraState.UNREACHABLE),
        (Kind.TIMEOUT, "stream_stalled", CameraState.STALLED),
        (Kind.INTERNAL, "worker_crashed", CameraState.CRASHED),
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
