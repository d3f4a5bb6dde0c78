"""What a camera does to the process that reads it costs that process's cameras some seconds, and the others nothing."""

import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from camera_rig import CANARY, LOGIN, rtsp_camera
from pool_rig import PoolRig, running_pool

from crow_daemon.registry.camera import Camera
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Secret
from crow_daemon.worker.confinement import landlock_version
from crow_sim.rtsp.server import RtspServer

STRANGE = (sys.executable, "-P", str(Path(__file__).parents[2] / "strange_worker.py"))
AGAIN_S = 8.0  # until frames come again; five on a machine that has nothing else to do


def good_camera(server: RtspServer, camera_id: str) -> Camera:
    return rtsp_camera(server.url("h264"), id=camera_id)


def strange_camera(deed: str) -> Camera:
    return rtsp_camera("rtsp://127.0.0.1:1/none", id=f"a-{deed}", name=deed)


async def lost(rig: PoolRig, camera_id: str, signal_number: int) -> float:
    """Sends a signal to a camera's worker; the seconds until frames of it come again."""
    pid = rig.snapshot(camera_id).worker_pid
    assert pid is not None
    os.kill(pid, signal_number)
    began_s = time.monotonic()
    await rig.until(lambda: rig.snapshot(camera_id).worker_pid not in (None, pid), "another worker")
    await rig.until_frames(1, camera_id)
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGSEGV, "worker_crashed"), (signal.SIGSTOP, "worker_hung")], ids=["crash", "hang"]
)
async def test_a_worker_that_dies_or_hangs_is_replaced_within_seconds_and_no_other_is_touched(
    registry: Registry, server: RtspServer, number: int, reason: str
) -> None:
    for camera_id in ("till", "door", "yard"):
        registry.add(good_camera(server, camera_id), LOGIN.password)
    async with running_pool(PoolRig(registry, cameras_per_worker=2)) as rig:
        for camera_id in ("till", "door", "yard"):
            await rig.until_frames(1, camera_id)
        (first,) = (worker["cameras"] for worker in rig.pool.workers() if "till" in worker["cameras"])
        (shared,) = set(first) - {"till"}
        (alone,) = {"door", "yard"} - {shared}
        before = rig.snapshot(alone)
        assert await lost(rig, "till", number) < AGAIN_S
        await rig.until_frames(1, shared)
        after = rig.snapshot(alone)
        assert (after.since_us, after.worker_pid, after.worker_losses) == (before.since_us, before.worker_pid, {})
        till = rig.snapshot("till")
        assert till.worker_losses == rig.snapshot(shared).worker_losses == {reason: 1}
        assert 1 <= till.counters.dropped[reason] <= AGAIN_S * 5 + 1  # it is sampled five times a second
        assert till.worker_pid != rig.snapshot(shared).worker_pid, "split, as nobody knows which of both it was"
    for camera_id in ("till", "door", "yard"):
        assert rig.snapshot(camera_id).counters.sent == len(rig.line.of(camera_id))


@pytest.mark.parametrize(
    ("deed", "reason"),
    [("crash", "worker_crashed"), ("hang", "worker_hung"), ("block", "worker_hung"), ("leak", "worker_memory")],
)
async def test_a_camera_that_keeps_killing_its_worker_soon_sits_alone(
    registry: Registry, server: RtspServer, deed: str, reason: str
) -> None:
    strange = strange_camera(deed)
    registry.add(strange, Secret("x"))
    for camera_id in ("door", "till"):
        registry.add(good_camera(server, camera_id), LOGIN.password)
    memory_bytes = 400 << 20 if deed == "leak" else 1 << 30
    async with running_pool(PoolRig(registry, program=STRANGE, memory_bytes=memory_bytes)) as rig:
        await rig.until(lambda: rig.snapshot(strange.id).worker_losses.get(reason, 0) >= 2, "two losses")
        await rig.until_frames(5)
        for camera_id in ("door", "till"):
            assert rig.snapshot(camera_id).worker_losses == {reason: 1}, "of the first worker, which they shared"
        assert rig.snapshot("till").worker_pid == rig.snapshot("door").worker_pid != rig.snapshot(strange.id).worker_pid
        assert rig.snapshot(strange.id).counters.dropped[reason] > 0


async def test_a_decoder_that_runs_in_circles_costs_the_cameras_of_its_worker_seconds(
    registry: Registry, server: RtspServer
) -> None:
    registry.add(good_camera(server, "till"), LOGIN.password)
    async with running_pool(PoolRig(registry, program=STRANGE)) as rig:
        await rig.until_frames(1)
        registry.add(strange_camera("spin"), Secret("x"))
        await rig.until(lambda: rig.snapshot().worker_losses == {"worker_hung": 1}, "noticed")
        last_before = rig.line.of("till")[-1]
        await rig.until_frames(1)
        assert "hung at reading a-spin" in (rig.snapshot("a-spin").last_error or "")
        assert rig.snapshot("a-spin").worker_pid != rig.snapshot().worker_pid, "the culprit sits alone at once"
    first_after = next(frame for frame in rig.line.of("till") if frame.capture_us > last_before.capture_us)
    assert first_after.capture_us - last_before.capture_us < AGAIN_S * 1_000_000


async def test_a_worker_that_was_killed_from_outside_is_replaced_as_it_was(
    registry: Registry, server: RtspServer
) -> None:
    for camera_id in ("door", "till"):
        registry.add(good_camera(server, camera_id), LOGIN.password)
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until_frames(1)
        assert await lost(rig, "till", signal.SIGKILL) < AGAIN_S
        (worker,) = rig.pool.workers()
        assert (worker["cameras"], worker["losses"]) == (["door", "till"], {"worker_crashed": 1})


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else may look into a worker")
async def test_a_worker_gains_no_rights_dumps_no_core_and_holds_nothing_that_it_was_not_given(
    registry: Registry, server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROW_RECEIVER_INTERNAL_KEY", "a secret of somebody else's")
    registry.add(good_camera(server, "till"), LOGIN.password)
    with socket.socket() as inheritable:
        inheritable.set_inheritable(True)
        async with running_pool(PoolRig(registry)) as rig:
            await rig.until_frames(1)
            process = Path(f"/proc/{rig.snapshot().worker_pid}")
            assert "NoNewPrivs:\t1" in (process / "status").read_text()
            assert re.search(r"Max core file size +0 +0 ", (process / "limits").read_text())
            kinds = Counter(str(link.readlink()).split(":")[0] for link in (process / "fd").iterdir())
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert CANARY.encode() not in told
    assert b"secret of somebody" not in told
    assert kinds == {"/dev/null": 2, "pipe": 1, "socket": 4}, "its daemon, its camera, the relay to libav; no others"


@pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
async def test_a_worker_opens_neither_the_registry_nor_any_file_of_others_and_touches_no_other_process(
    registry: Registry, server: RtspServer, tmp_path: Path
) -> None:
    registry.add(good_camera(server, "till"), LOGIN.password)
    async with running_pool(PoolRig(registry, cameras_per_worker=1, program=STRANGE)) as rig:
        await rig.until_frames(1)
        sibling = tmp_path / str(rig.snapshot().worker_pid)
        registry.add(rtsp_camera(f"rtsp://127.0.0.1:1{sibling}", id="spy", name="pry"), Secret("x"))
        await rig.pool.reconcile()
        await rig.until(lambda: rig.snapshot("spy").last_error is not None, "it has tried")
        assert re.fullmatch(r"done: \[\] of \d+", rig.snapshot("spy").last_error or "")
        assert (tmp_path / "cameras.db").read_bytes(), "which is there, so the test can tell"
        await rig.until_frames(1)
