"""The pool follows the registry and touches only what changed."""

import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from camera_rig import CANARY, rtsp_camera
from pool_rig import PoolRig, running_pool

from crow_daemon.capture.outcome import Dropped
from crow_daemon.capture.state import CameraState
from crow_daemon.pool import window
from crow_daemon.registry.camera import Camera, CaptureMode, ReaderChoice, Recording
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Secret
from crow_sim.rtsp.server import RtspServer


async def test_a_change_of_one_camera_leaves_the_others_alone(registry: Registry, server: RtspServer) -> None:
    registry.add(rtsp_camera(server.url("h264"), id="till"), Secret(CANARY))
    registry.add(rtsp_camera(server.url("hevc"), id="door"), Secret(CANARY))
    async with running_pool(PoolRig(registry)) as rig:
        for camera_id in ("till", "door"):
            await rig.until(lambda it=camera_id: rig.state(it) is CameraState.LIVE, "both live")  # type: ignore[misc]
        before = rig.snapshot("door")
        registry.update(replace(registry.get("till"), enabled=False))
        await rig.until(lambda: rig.state() is CameraState.DISABLED, "disabled")
        registry.update(replace(registry.get("till"), enabled=True))
        await rig.until(lambda: rig.state() is CameraState.LIVE, "live again")
        door = rig.snapshot("door")
        assert (door.since_us, door.reconnects, door.worker_pid) == (before.since_us, 0, before.worker_pid)
        assert door.counters.sent >= before.counters.sent
        assert rig.snapshot().worker_pid == door.worker_pid, "there was room"
        assert server.players("hevc") == 1


async def test_a_camera_that_is_added_starts_and_one_that_is_removed_ends(
    registry: Registry, server: RtspServer
) -> None:
    async with running_pool(PoolRig(registry)) as rig:
        assert rig.pool.states() == []
        assert rig.pool.workers() == [], "nothing to read, no process"
        registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
        await rig.pool.reconcile()
        await rig.until(lambda: rig.state() is CameraState.LIVE, "live")
        registry.remove("till")
        await rig.until(lambda: rig.pool.states() == [], "gone")
        await rig.until(lambda: server.players("h264") == 0, "hung up")
        await rig.until(lambda: rig.pool.workers() == [], "its process has ended")


async def test_a_new_password_reaches_a_camera_that_waits_for_it(registry: Registry, server: RtspServer) -> None:
    registry.add(rtsp_camera(server.url("h264")), Secret("wrong"))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until(lambda: rig.state() is CameraState.AUTH_FAILED, "auth_failed")
        registry.update(registry.get("till"), Secret(CANARY))
        await rig.until(lambda: rig.state() is CameraState.LIVE, "live")


async def test_a_refused_login_is_not_tried_again_because_its_worker_died(
    registry: Registry, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264"), id="till"), Secret(CANARY))
    registry.add(rtsp_camera(server.url("hevc"), id="wrong"), Secret("wrong"))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until(lambda: rig.state("wrong") is CameraState.AUTH_FAILED, "auth_failed")
        await rig.until_frames(1)
        pid = rig.snapshot().worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSEGV)
        await rig.until(lambda: rig.snapshot().worker_pid not in (None, pid), "another worker")
        await rig.until_frames(5)
        logins = [seen for seen in server.requests if "hevc" in seen.url and seen.with_credentials]
        assert len(logins) == 1
        snapshot = rig.snapshot("wrong")
        assert (snapshot.state, snapshot.last_error_code) == (CameraState.AUTH_FAILED, "auth_failed")


async def test_a_camera_without_hope_costs_the_others_nothing(registry: Registry, server: RtspServer) -> None:
    for number in range(5):
        registry.add(rtsp_camera("rtsp://127.0.0.1:1/none", id=f"dead-{number}"), Secret("x"))
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until_frames(10)
        # One that comes late is missed until then.
        await rig.until(lambda: set(rig.snapshot().counters.dropped) <= {"connecting"}, "no other sample missing")
        assert len(rig.pool.workers()) == 1


async def test_cameras_share_a_worker_up_to_the_limit_and_those_that_are_passed_on_have_their_own(
    registry: Registry,
) -> None:
    for number in range(3):
        registry.add(rtsp_camera("rtsp://127.0.0.1:1/none", id=f"decoded-{number}"), Secret("x"))
        unseen = {"mode": CaptureMode.AUTO, "reader": ReaderChoice.AUTO, "sample_interval_ms": 2000}
        registry.add(rtsp_camera("rtsp://127.0.0.1:1/none", id=f"passed-on-{number}", **unseen), Secret("x"))
    async with running_pool(PoolRig(registry, cameras_per_worker=2)) as rig:
        await rig.until(lambda: all(worker["pid"] for worker in rig.pool.workers()), "all started")
        shared = sorted(worker["cameras"] for worker in rig.pool.workers())
        assert shared == [
            ["decoded-0", "decoded-1"],
            ["decoded-2"],
            ["passed-on-0", "passed-on-1", "passed-on-2"],
        ]


async def test_a_recording_is_read_once_even_across_restarts_and_when_it_is_enabled_anew(
    registry: Registry, streams: dict[str, Path]
) -> None:
    registry.add(Camera("monday", "Monday", Recording(streams["h264"], 0), sample_interval_ms=300))
    rig = PoolRig(registry)
    async with running_pool(rig):
        await rig.until(lambda: rig.state("monday") is CameraState.FINISHED, "finished")
        await rig.until(lambda: registry.get("monday").finished, "marked")
        await rig.pool.reconcile()
        assert rig.snapshot("monday").counters.sent == len(rig.line.frames) == 14
    again = PoolRig(registry)
    again.line.frames += rig.line.frames
    async with running_pool(again):
        assert again.state("monday") is CameraState.FINISHED
        assert again.pool.workers() == []
        for enabled in (False, True):
            registry.update(replace(registry.get("monday"), enabled=enabled))
            await again.pool.reconcile()
        await again.until(lambda: again.state("monday") is CameraState.FINISHED, "finished again")
        assert len(again.line.frames) == 14


async def test_a_recording_that_is_switched_off_and_on_goes_on_where_it_was(
    registry: Registry, streams: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "FRAMES", 5)
    registry.add(Camera("monday", "Monday", Recording(streams["h264"], 0), sample_interval_ms=33))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until(lambda: rig.pool.workers()[0]["pid"] is not None, "started")
        rig.line.has_room = False  # beyond the first window
        await rig.until_frames(5, "monday")
        registry.update(replace(registry.get("monday"), enabled=False))
        await rig.until(lambda: rig.state("monday") is CameraState.DISABLED, "disabled")
        rig.line.has_room = True
        registry.update(replace(registry.get("monday"), enabled=True))
        await rig.until(lambda: rig.state("monday") is CameraState.FINISHED, "finished")
    captures_us = [frame.capture_us for frame in rig.line.frames]
    assert captures_us == [100_000 * number for number in range(40)]


async def test_a_recording_waits_while_there_is_no_room_and_loses_nothing(
    registry: Registry, streams: dict[str, Path]
) -> None:
    registry.add(Camera("monday", "Monday", Recording(streams["h264"], 0), sample_interval_ms=300))
    rig = PoolRig(registry)
    rig.line.takes_recordings = False
    async with running_pool(rig):
        await rig.until(lambda: rig.state("monday") is CameraState.LIVE, "opened")
        assert rig.line.frames == []
        rig.line.takes_recordings = True
        await rig.until(lambda: rig.state("monday") is CameraState.FINISHED, "finished")
        counters = rig.snapshot("monday").counters
        assert (counters.sent, counters.dropped, len(rig.line.frames)) == (14, {}, 14)


async def test_a_line_without_room_drops_samples_for_its_reason_and_takes_all_that_it_had_credited(
    registry: Registry, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264"), sample_interval_ms=33), Secret(CANARY))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until_frames(1)
        rig.line.has_room = False
        await rig.until(lambda: rig.snapshot().counters.dropped.get(Dropped.SPOOL_FULL, 0) > 3, "no credit is left")
        rig.line.has_room = True
        await rig.until_frames(5)
    counters = rig.snapshot().counters
    assert counters.sent == len(rig.line.frames)


async def test_after_stop_nothing_is_left_in_hand_and_the_last_counts_can_be_read(
    registry: Registry, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until_frames(3)
    till = rig.snapshot()
    assert till.state is CameraState.STOPPED
    assert till.counters.sent == len(rig.line.frames)
    assert not till.counters.dropped.keys() - {"connecting", "no_picture"}


async def test_a_longer_interval_is_followed_without_a_restart_and_left_again(
    registry: Registry, server: RtspServer
) -> None:
    registry.add(rtsp_camera(server.url("h264")), Secret(CANARY))
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until_frames(5)
        rig.pool.follow_pace({"till": 600, "door": 9000})
        assert rig.snapshot().asked_interval_ms == 600
        await rig.until_frames(3)  # what was on its way
        slow = (await rig.until_frames(4))[-4:]
        rig.pool.follow_pace({})
        await rig.until_frames(3)
        fast = (await rig.until_frames(5))[-5:]
    assert [after.capture_us // 600_000 - before.capture_us // 600_000 for before, after in pairwise(slow)] == [1] * 3
    assert [after.capture_us // 200_000 - before.capture_us // 200_000 for before, after in pairwise(fast)] == [1] * 4
    last = rig.snapshot()
    assert (last.reconnects, last.asked_interval_ms) == (0, 0)
    assert last.counters.dropped[Dropped.DEGRADED] >= 2 * 3, "two of three samples, between each two"
    frames = rig.line.frames
    span_ticks = frames[-1].capture_us // 200_000 - frames[0].capture_us // 200_000 + 1
    sampled = last.counters.sent + last.counters.dropped[Dropped.DEGRADED]
    assert sampled == pytest.approx(span_ticks, abs=1), "its own ticks go on"


async def test_a_camera_that_is_started_later_follows_what_was_asked_before(registry: Registry) -> None:
    rig = PoolRig(registry)
    rig.pool.follow_pace({"till": 5000})
    registry.add(rtsp_camera("rtsp://127.0.0.1:1/none"), Secret("x"))
    async with running_pool(rig):
        assert rig.snapshot().asked_interval_ms == 5000
