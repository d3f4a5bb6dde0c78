"""Many cameras for long, and many reconnects: nothing is lost, and nothing grows.

`make soak` takes ten minutes and 500 reconnects; without its variables both are short, to see that the tests work.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from camera_rig import LOGIN, USER, rtsp_camera
from pool_rig import PoolRig, running_pool

from crow_daemon.registry.camera import Camera, CaptureMode, ReaderChoice, RtspAddress
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError
from crow_sim.line import DaemonService
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip

CAMERAS = 64
SECONDS = float(os.environ.get("SOAK_SECONDS", "15"))
RECONNECTS = int(os.environ.get("SOAK_RECONNECTS", "30"))
CLIP = os.environ.get("SOAK_CLIP")  # what the cameras show; else something small
ALL_LIVE_S = 60.0
GROWTH_BYTES = 16 << 20

pytestmark = [pytest.mark.line, pytest.mark.timeout(int(3 * SECONDS + 5 * RECONNECTS + 120))]


@contextmanager
def served(clip: Path, cameras: int) -> Iterator[list[str]]:
    """The URLs of so many cameras, in a process of their own."""
    mounts = [f"--mount=camera-{number}={clip}" for number in range(cameras)]
    command = [str(Path(sys.executable).with_name("crow-sim")), "serve", "--port", "0", *mounts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield [server.stdout.readline().strip() for _ in range(cameras)]
        finally:
            server.terminate()


def test_64_cameras_at_once_lose_no_sample(tmp_path: Path) -> None:
    clip = Path(CLIP) if CLIP else small_clip(tmp_path)
    state = tmp_path / "daemon"
    state.mkdir()
    registry = Registry(state / "cameras.db")
    settings = {"CROW_DAEMON_SPOOL__MAX_BYTES": str(16 << 30)}
    with served(clip, CAMERAS) as urls:
        for number, url in enumerate(urls):
            address = RtspAddress(CameraUrl.parse(url))
            registry.add(Camera(f"cam-{number:02}", f"Camera {number}", address, 1000, mode=CaptureMode.KEYFRAME))
        registry.close()
        with DaemonService(state, "127.0.0.1:1", settings) as daemon:
            ends_s = time.monotonic() + ALL_LIVE_S
            while not all_live(daemon):
                assert time.monotonic() < ends_s, "not all cameras became live"
                time.sleep(0.5)
            began_s, before = time.monotonic(), counted(daemon)
            time.sleep(SECONDS)
            lasted_s, after = time.monotonic() - began_s, counted(daemon)
            workers = daemon.json("status")["workers"]
            assert daemon.stop() == 0
    lost = {camera: dropped for camera, (_, dropped) in after.items() if dropped - before[camera][1]}
    assert lost == {}
    for camera, (sent, _) in after.items():
        assert sent - before[camera][0] == pytest.approx(lasted_s, abs=5), camera
    assert sorted(len(worker["cameras"]) for worker in workers) == [32, 32]
    assert [worker["losses"] for worker in workers] == [{}, {}]
    total = sum(sent for sent, _ in after.values())
    size_bytes = sum(file.stat().st_size for file in (state / "spool").rglob("*") if file.is_file())
    print(f"{CAMERAS} cameras, {lasted_s:.0f} s, {total} samples of {size_bytes / total:.0f} bytes, none lost")


def all_live(daemon: DaemonService) -> bool:
    try:
        cameras = daemon.json("status")["cameras"]
    except (CrowError, ValueError):  # it has not written its status yet
        return False
    return len(cameras) == CAMERAS and all(camera["counters"]["sent"] >= 2 for camera in cameras)


def counted(daemon: DaemonService) -> dict[str, tuple[int, int]]:
    """Samples sent and dropped, by camera."""
    cameras = json.loads((daemon.directory / "status.json").read_text())["cameras"]
    return {
        camera["camera_id"]: (camera["counters"]["sent"], sum(camera["counters"]["dropped"].values()))
        for camera in cameras
    }


async def test_reconnects_leave_nothing_behind_in_worker_or_daemon(tmp_path: Path) -> None:
    clip = small_clip(tmp_path)
    registry = Registry(tmp_path / "cameras.db")
    ways = [
        {"mode": CaptureMode.KEYFRAME, "reader": ReaderChoice.DIRECT},
        {"mode": CaptureMode.KEYFRAME, "reader": ReaderChoice.PYAV},
        {"mode": CaptureMode.DECODE, "reader": ReaderChoice.PYAV},
    ]
    program = (sys.executable, "-P", str(Path(__file__).with_name("quick_worker.py")))
    rig = PoolRig(registry, program=program)
    server = RtspServer({"cam": clip}, user=USER, password=LOGIN.password.reveal(), faults=Faults(close_after_s=0.4))
    with ThreadedRtspServer(server) as server:
        for number in range(9):
            registry.add(rtsp_camera(server.url("cam"), id=f"cam-{number}", **ways[number % 3]), LOGIN.password)
        async with running_pool(rig):
            warm = max(30, RECONNECTS // 5)
            await rig.until(lambda: reconnects(rig) >= warm, "warm", 60 + warm)
            at_first = await grown(rig, warm + RECONNECTS // 10)
            await rig.until(lambda: reconnects(rig) >= warm + RECONNECTS, "all reconnects", 60 + RECONNECTS)
            at_last = await grown(rig, warm + RECONNECTS + RECONNECTS // 10)
            assert all(not worker["losses"] for worker in rig.pool.workers())
    registry.close()
    print(f"{RECONNECTS} reconnects: {at_first} before, {at_last} after")
    for pid, (files, memory_bytes) in at_last.items():
        before_files, before_bytes = at_first[pid]
        assert files <= before_files + 2, "descriptors"
        assert memory_bytes - before_bytes < GROWTH_BYTES, "memory"


def reconnects(rig: PoolRig) -> int:
    return sum(snapshot.reconnects for snapshot in rig.pool.states())


async def grown(rig: PoolRig, until_reconnects: int) -> dict[int, tuple[int, int]]:
    """By process: the most descriptors at any time until so many reconnects, and the memory in RAM then, in bytes."""
    pids = [os.getpid(), *(worker["pid"] for worker in rig.pool.workers())]
    files = dict.fromkeys(pids, 0)

    def enough() -> bool:
        rig.line.frames.clear()
        for pid in pids:
            files[pid] = max(files[pid], sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
        return reconnects(rig) >= until_reconnects

    await rig.until(enough, "looked at for a while", 120)
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return {pid: (files[pid], int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page_bytes) for pid in pids}
