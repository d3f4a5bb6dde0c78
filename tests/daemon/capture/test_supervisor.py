"""The supervisor follows the registry and touches only what changed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from camera_rig import CANARY, USER, CollectingSink, eventually, rtsp_camera

from crow_daemon.capture.state import CameraState
from crow_daemon.capture.supervisor import CaptureSupervisor
from crow_daemon.ledger.book import Book
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Secret
from crow_shared.clock import SystemClock
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "cameras.db")
    yield registry
    registry.close()


@pytest.fixture
def supervisor(registry: Registry, sink: CollectingSink) -> Iterator[CaptureSupervisor]:
    supervisor = CaptureSupervisor(registry, sink, Book(), SystemClock(), last_capture_us=sink.last_capture_us)
    yield supervisor
    supervisor.stop(10)


@pytest.fixture
def server(streams: dict[str, Path]) -> Iterator[RtspServer]:
    with ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY)) as server:
        yield server


def state(supervisor: CaptureSupervisor, camera_id: str) -> CameraState:
    return {snapshot.camera_id: snapshot.state for snapshot in supervisor.states()}[camera_id]


def reconciled(supervisor: CaptureSupervisor, camera_id: str, wanted: CameraState) -> bool:
    supervisor.reconcile()
    return state(supervisor, camera_id) is wanted


def test_a_change_of_one_camera_leaves_the_others_alone(
    registry: Registry, supervisor: CaptureSupervisor, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264"), id="till"), Secret(CANARY))
    registry.add(rtsp_camera(server.url("hevc"), id="door"), Secret(CANARY))
    supervisor.start()
    for camera_id in ("till", "door"):
        eventually(lambda it=camera_id: state(supervisor, it) is CameraState.LIVE, "both live")
    (door_before,) = [one for one in supervisor.states() if one.camera_id == "door"]
    registry.update(replace(registry.get("till"), enabled=False))
    eventually(lambda: reconciled(supervisor, "till", CameraState.DISABLED), "disabled")
    registry.update(replace(registry.get("till"), enabled=True))
    eventually(lambda: reconciled(supervisor, "till", CameraState.LIVE), "live again")
    (door,) = [one for one in supervisor.states() if one.camera_id == "door"]
    assert (door.since_us, door.reconnects) == (door_before.since_us, 0)
    assert door.counters.sent >= door_before.counters.sent
    assert server.players("hevc") == 1


def test_a_camera_that_is_added_starts_and_one_that_is_removed_ends(
    registry: Registry, supervisor: CaptureSupervisor, server: RtspServer
) -> None:
    supervisor.start()
    assert supervisor.states() == []
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    eventually(lambda: reconciled(supervisor, "till", CameraState.LIVE), "live")
    registry.remove("till")
    eventually(lambda: not (supervisor.reconcile() or supervisor.states()), "gone")
    eventually(lambda: server.players("h264") == 0, "hung up")


def test_a_new_password_reaches_a_camera_that_waits_for_it(
    registry: Registry, supervisor: CaptureSupervisor, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264")), Secret("wrong"))
    supervisor.start()
    eventually(lambda: state(supervisor, "till") is CameraState.AUTH_FAILED, "auth_failed")
    registry.update(registry.get("till"), Secret(CANARY))
    eventually(lambda: reconciled(supervisor, "till", CameraState.LIVE), "live")


def test_a_camera_without_hope_costs_the_others_nothing(
    registry: Registry, supervisor: CaptureSupervisor, server: RtspServer, sink: CollectingSink
) -> None:
    for number in range(5):
        registry.add(rtsp_camera("rtsp://127.0.0.1:1/none", id=f"dead-{number}"), Secret("x"))
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    supervisor.start()
    sink.wait_for(10)
    (till,) = [one for one in supervisor.states() if one.camera_id == "till"]
    assert sum(missed for reason, missed in till.counters.dropped.items() if reason != "connecting") == 0


def test_a_recording_is_read_once_even_across_restarts_and_when_it_is_enabled_anew(
    registry: Registry, supervisor: CaptureSupervisor, streams: dict[str, Path], sink: CollectingSink
) -> None:
    registry.add(Camera("monday", "Monday", Recording(streams["h264"], 0), sample_interval_ms=300))
    supervisor.start()
    eventually(lambda: reconciled(supervisor, "monday", CameraState.FINISHED), "finished")
    eventually(lambda: not supervisor.reconcile() and registry.get("monday").finished, "marked")
    supervisor.reconcile()
    (monday,) = supervisor.states()
    assert monday.counters.sent == len(sink.frames) == 14
    again = CaptureSupervisor(registry, sink, Book(), SystemClock(), last_capture_us=sink.last_capture_us)
    again.start()
    assert state(again, "monday") is CameraState.FINISHED
    again.stop(5)
    assert len(sink.frames) == 14
    for enabled in (False, True):
        registry.update(replace(registry.get("monday"), enabled=enabled))
    eventually(lambda: reconciled(supervisor, "monday", CameraState.FINISHED), "finished again")
    assert len(sink.frames) == 14


def test_a_recording_that_is_switched_off_and_on_goes_on_where_it_was(
    registry: Registry, supervisor: CaptureSupervisor, streams: dict[str, Path], sink: CollectingSink
) -> None:
    sink.room = 5
    registry.add(Camera("monday", "Monday", Recording(streams["h264"], 0), sample_interval_ms=300))
    supervisor.start()
    sink.wait_for(5)
    registry.update(replace(registry.get("monday"), enabled=False))
    eventually(lambda: reconciled(supervisor, "monday", CameraState.DISABLED), "disabled")
    sink.room = None
    registry.update(replace(registry.get("monday"), enabled=True))
    eventually(lambda: reconciled(supervisor, "monday", CameraState.FINISHED), "finished")
    ticks = [frame.capture_us // 300_000 for frame in sink.frames]
    assert ticks == list(range(14))


def test_after_stop_no_thread_runs_and_the_last_counts_can_be_read(
    registry: Registry, supervisor: CaptureSupervisor, server: RtspServer, sink: CollectingSink
) -> None:
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    supervisor.start()
    sink.wait_for(3)
    supervisor.stop(10)
    (till,) = supervisor.states()
    assert till.state is CameraState.STOPPED
    assert till.counters.sent == len(sink.frames)
