"""What a worker does without its daemon, what its log may hold, and what the daemon leaves to its workers."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from camera_rig import CANARY, LOGIN, WAIT_S, rtsp_camera
from pool_rig import PoolRig, running_pool
from structlog.testing import capture_logs

from crow_daemon.pool import log_relay
from crow_daemon.pool.log_relay import LogRelay
from crow_daemon.pool.process import WorkerProcess
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials
from crow_shared.errors import CrowError
from crow_sim.line import DaemonService
from crow_sim.rtsp.server import RtspServer

HOSTILE = """
import socket, struct, sys, time
sock = socket.socket(fileno=0)
sock.recv(1)
sock.sendall({bytes!r})
time.sleep(60)
"""


def heard(*lines: bytes, credentials: Credentials | None = None) -> list[Any]:
    """What the daemon logs of a worker's standard error."""

    async def relayed() -> None:
        stderr = asyncio.StreamReader()
        stderr.feed_data(b"\n".join(lines))
        stderr.feed_eof()
        relay = LogRelay(7)
        relay.hide(credentials)
        await relay.run(stderr)

    with capture_logs() as logged:
        asyncio.run(relayed())
    return logged


def test_a_worker_s_log_events_become_the_daemon_s() -> None:
    line = json.dumps(
        {"event": "camera is live", "level": "warning", "logger": "x", "timestamp": "y", "camera": "till"}
    )
    assert heard(line.encode()) == [{"event": "camera is live", "log_level": "warning", "worker": 7, "camera": "till"}]


def test_what_is_no_log_event_is_logged_as_what_it_says() -> None:
    lines = [entry["line"] for entry in heard(b"Segmentation fault", b'{"no": "event"}', b"{broken", b"\xff")]
    assert lines == ["Segmentation fault", '{"no": "event"}', "{broken", "\ufffd"]


@pytest.mark.parametrize("written", [CANARY, json.dumps(CANARY), f"rtsp://shop:{CANARY}@camera/1"])
def test_no_password_of_its_cameras_gets_into_the_log_whatever_a_worker_writes(written: str) -> None:
    logged = heard(written.encode(), json.dumps({"event": written, "x": written}).encode(), credentials=LOGIN)
    assert "ry%40" not in str(logged)
    assert "***" in str(logged)


def test_a_worker_cannot_fill_the_log() -> None:
    logged = heard(*[b"x" * 10_000] * 1000)
    assert len(logged) == log_relay.MAX_LINES
    assert max(len(entry["line"]) for entry in logged) <= log_relay.MAX_LINE_BYTES


@pytest.mark.parametrize(
    "said",
    [b"\xff" * 8, b"\0\0\0\x02\0\0\0\0\xff\xff", b"\0\0\0\x04\0\0\0\0\x0a\x02\x0a\0", b"\0\0\0\0\0\0\0\x07abcdefg"],
    ids=["endless message", "no message", "event of no camera", "picture of no frame"],
)
async def test_a_worker_that_says_what_no_worker_says_is_killed_and_replaced(registry: Registry, said: bytes) -> None:
    registry.add(rtsp_camera("rtsp://127.0.0.1:1/none"), LOGIN.password)
    program = (sys.executable, "-c", HOSTILE.format(bytes=said))
    async with running_pool(PoolRig(registry, program=program)) as rig:
        await rig.until(lambda: rig.snapshot().worker_losses.get("worker_crashed", 0) > 0, "refused")
        assert "the capture worker sent" in (rig.snapshot().last_error or "")


async def test_a_worker_that_does_not_start_is_tried_again(registry: Registry) -> None:
    registry.add(rtsp_camera("rtsp://127.0.0.1:1/none"), LOGIN.password)
    async with running_pool(PoolRig(registry, program=("/no/such/program",))) as rig:
        await rig.until(lambda: rig.snapshot().worker_losses.get("worker_crashed", 0) > 1, "tried twice")
        assert "does not start" in (rig.snapshot().last_error or "")


async def test_a_worker_ends_when_its_daemon_s_socket_does() -> None:
    process = await WorkerProcess.spawn()
    process._writer.close()
    async with asyncio.timeout(WAIT_S):
        assert await process.ended() == 0


@pytest.fixture
def daemon(tmp_path: Path, server: RtspServer) -> Any:
    with DaemonService(tmp_path / "daemon", "127.0.0.1:1") as running:
        running.add_rtsp("till", server.url("h264"), LOGIN.username, CANARY)
        yield running


def eventually(condition: Callable[[], Any], what: str) -> Any:
    ends_s = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < ends_s, f"never came true: {what}"
        time.sleep(0.1)
    return found


def worker_of(daemon: DaemonService) -> int | None:
    """The worker that reads the camera, once it does."""
    try:
        (camera,) = daemon.json("status")["cameras"]
    except (CrowError, ValueError):
        return None
    return camera["worker_pid"] if camera["counters"]["sent"] else None


def test_no_worker_survives_a_daemon_that_was_killed(daemon: DaemonService) -> None:
    worker = eventually(lambda: worker_of(daemon), "frames")
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "its worker is gone")


def test_the_daemon_itself_loads_nothing_that_parses_the_bytes_of_cameras(daemon: DaemonService) -> None:
    worker = eventually(lambda: worker_of(daemon), "frames")
    assert daemon.process is not None

    def parsers(pid: int) -> bool:
        maps = Path(f"/proc/{pid}/maps").read_text()
        return any(name in maps for name in ("libav", "cv2", "onnxruntime"))

    assert parsers(worker), "a worker does, so the test can tell"
    assert not parsers(daemon.process.pid)
    assert daemon.stop() == 0
    assert not Path(f"/proc/{worker}").exists()


def test_a_stop_hands_over_what_workers_have_in_hand(daemon: DaemonService) -> None:
    eventually(lambda: worker_of(daemon), "frames")
    assert daemon.stop() == 0
    (camera,) = json.loads((daemon.directory / "status.json").read_text())["cameras"]
    assert camera["counters"]["sent"] == camera["spool"]["spooled"] > 0
    assert not camera["counters"]["dropped"].keys() & {"stopped", "worker_crashed", "worker_hung"}
