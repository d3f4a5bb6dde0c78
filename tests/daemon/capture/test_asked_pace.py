"""The receiver asks for a longer interval: fewer samples at once, each one left out counted, and all of them after."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from camera_rig import CANARY, USER, CollectingSink, RunningCamera, assert_balanced, eventually, rtsp_camera
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.ledger import Dropped
from crow_daemon.capture.sampler import Sampler
from crow_daemon.capture.state import CameraSnapshot, CameraState
from crow_daemon.capture.supervisor import CaptureSupervisor
from crow_daemon.ledger.book import Book
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Secret
from crow_shared.clock import SystemClock
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

START_US = 1_700_000_000_250_000


@pytest.fixture
def till(tmp_path: Path, streams: dict[str, Path], sink: CollectingSink) -> Iterator[CaptureSupervisor]:
    """A camera that is sampled five times a second."""
    with ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY)) as server:
        registry = Registry(tmp_path / "cameras.db")
        registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
        supervisor = CaptureSupervisor(registry, sink, Book(), SystemClock())
        supervisor.start()
        yield supervisor
        supervisor.stop(10)
        registry.close()


def snapshot(supervisor: CaptureSupervisor) -> CameraSnapshot:
    (found,) = supervisor.states()
    return found


def test_a_longer_interval_is_followed_without_a_restart_and_left_again(
    till: CaptureSupervisor, sink: CollectingSink
) -> None:
    sink.wait_for(5)
    till.follow_pace({"till": 600, "door": 9000})
    assert snapshot(till).asked_interval_ms == 600
    asked_from = len(sink.frames) + 1  # one may have been on its way
    slow = sink.wait_for(asked_from + 4)[asked_from : asked_from + 4]
    till.follow_pace({})
    again_from = len(sink.frames) + 1
    fast = sink.wait_for(again_from + 5)[again_from:]
    till.stop(10)
    assert [after.capture_us // 600_000 - before.capture_us // 600_000 for before, after in pairwise(slow)] == [1] * 3
    assert [after.capture_us // 200_000 - before.capture_us // 200_000 for before, after in pairwise(fast)] == [1] * 4
    last = snapshot(till)
    counters = last.counters
    assert (last.reconnects, last.asked_interval_ms) == (0, 0)
    assert counters.dropped[Dropped.DEGRADED] >= 2 * 3, "two of three samples, between each two"
    span_ticks = sink.frames[-1].capture_us // 200_000 - sink.frames[0].capture_us // 200_000 + 1
    sampled = counters.sent + counters.dropped[Dropped.DEGRADED]
    assert sampled == pytest.approx(span_ticks, abs=1), "its own ticks go on"


def test_a_camera_that_is_started_later_follows_what_was_asked_before(
    tmp_path: Path, streams: dict[str, Path], sink: CollectingSink
) -> None:
    registry = Registry(tmp_path / "cameras.db")
    supervisor = CaptureSupervisor(registry, sink, Book(), SystemClock())
    supervisor.follow_pace({"till": 5000})
    registry.add(rtsp_camera("rtsp://127.0.0.1:1/none"), Secret("x"))
    supervisor.start()
    assert snapshot(supervisor).asked_interval_ms == 5000
    supervisor.stop(10)
    registry.close()


def test_a_recording_takes_no_notice(streams: dict[str, Path], sink: CollectingSink) -> None:
    camera = Camera("monday", "Monday", Recording(streams["h264"], START_US), sample_interval_ms=300)
    recording = RunningCamera(camera, sink, None)
    recording.runner.follow_pace(60_000)
    with recording as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert len(sink.frames) == 14
    assert runner.snapshot().asked_interval_ms == 0
    assert_balanced(runner, sink)


@given(own_us=st.integers(33_000, 2_000_000), times=st.integers(1, 40), ticks=st.integers(10, 200))
def test_of_the_own_ticks_one_in_each_longer_interval_is_taken(own_us: int, times: int, ticks: int) -> None:
    longer = Sampler(own_us * times)
    taken = [tick for tick in range(ticks) if longer.take(START_US + tick * own_us) is not None]
    assert [(START_US + tick * own_us) // (own_us * times) for tick in taken] == sorted(
        {(START_US + tick * own_us) // (own_us * times) for tick in range(ticks)}
    )
