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

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.pool import log_relay, worker
from crow_daemon.pool.hearing import hear
from crow_daemon.pool.log_relay import LogRelay
from crow_daemon.pool.process import WorkerProcess
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials, Secret
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


SNOWY = 'pa"ss✱☃é'
ESCAPED_TWICE = json.dumps({"event": "x", "inner": json.dumps(SNOWY)})
ESCAPED_ODDLY = "".join(f"\\u{ord(character):04x}" for character in SNOWY)


@pytest.mark.parametrize(
    ("password", "written"),
    [
        (CANARY, CANARY.encode()),
        (CANARY, f"rtsp://shop:{CANARY}@camera/1".encode()),
        (CANARY, json.dumps({"event": CANARY, "x": {"y": [CANARY]}, CANARY: 1}).encode()),
        (SNOWY, repr({"password": SNOWY}).encode()),
        (SNOWY, json.dumps(SNOWY).encode()),
        (SNOWY, ESCAPED_TWICE.encode()),
        (SNOWY, f'{{"event": "x", "y": "{ESCAPED_ODDLY}", "{ESCAPED_ODDLY}": 1}}'.encode()),
        ("abc%", b"abc%25"),
    ],
)
def test_no_password_of_its_cameras_gets_into_the_log_whatever_a_worker_writes(password: str, written: bytes) -> None:
    logged = heard(written, credentials=Credentials("shop", Secret(password)))
    for part in ("ry%40", "☃", "u2603", "25"):
        assert part not in str(logged)
    assert "***" in str(logged)


@pytest.mark.parametrize("before", range(log_relay.MAX_LINE_BYTES - len(CANARY) - 1, log_relay.MAX_LINE_BYTES + 1))
def test_no_part_of_a_password_passes_where_a_line_is_too_long(before: int) -> None:
    assert "c@n" not in str(heard(b"x" * before + CANARY.encode(), credentials=LOGIN))


@pytest.mark.parametrize(
    "name", ["self", "level", "event", "method_name", "worker", "exc_info", "_record", "positional_args", "", "é \x1b"]
)
@pytest.mark.parametrize("value", [1, "x", None, {"y": []}])
def test_a_field_of_any_name_is_logged_and_raises_nothing(name: str, value: Any) -> None:
    (logged,) = heard(json.dumps({"event": "x", "level": "notset", "till": 1} | {name: value}).encode())
    assert (logged["worker"], "\x1b" in str(logged)) == (7, False)


def test_a_line_that_nests_too_deeply_is_a_line_like_any_other() -> None:
    (logged,) = heard(b'{"event": ' + b"[" * 15_000)
    assert logged["event"] == "capture worker says"


def test_a_worker_cannot_fill_the_log() -> None:
    logged = heard(*[b"x" * 100_000] * 500, *[b"y" * 10_000] * 500)
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


async def test_a_worker_that_reads_no_orders_is_killed_before_they_pile_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_UNREAD_BYTES", 1000)
    registry.add(rtsp_camera("rtsp://127.0.0.1:1/none"), LOGIN.password)
    async with running_pool(PoolRig(registry, program=(sys.executable, "-c", "import time; time.sleep(60)"))) as rig:
        await rig.until(lambda: rig.snapshot().worker_pid is not None, "started")
        for number in range(20_000):  # more than the socket holds
            rig.pool.follow_pace({"till": 1000 + number})
        await rig.until(lambda: rig.snapshot().worker_losses.get("worker_hung", 0) > 0, "refused")
        assert "did not read" in (rig.snapshot().last_error or "")


async def test_what_the_daemon_does_not_survive_hearing_costs_a_camera_its_worker_and_not_the_others_for_long(
    registry: Registry, server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for camera_id in ("bad", "till"):
        registry.add(rtsp_camera(server.url("h264"), id=camera_id), LOGIN.password)

    def hear_or_raise(event: pb.Event, camera: Camera, *rest: Any) -> None:
        if camera.id == "bad" and event.HasField("live"):
            raise ZeroDivisionError
        hear(event, camera, *rest)

    monkeypatch.setattr(worker, "hear", hear_or_raise)
    async with running_pool(PoolRig(registry)) as rig:
        await rig.until(lambda: rig.snapshot("bad").worker_losses.get("worker_crashed", 0) >= 2, "two losses")
        await rig.until_frames(3)
        assert rig.snapshot().worker_losses == {"worker_crashed": 1}, "of the first worker, which they shared"
        assert rig.snapshot().worker_pid != rig.snapshot("bad").worker_pid


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
    pid = eventually(lambda: worker_of(daemon), "frames")
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "its worker is gone")


def test_the_daemon_itself_loads_nothing_that_parses_the_bytes_of_cameras(daemon: DaemonService) -> None:
    pid = eventually(lambda: worker_of(daemon), "frames")
    assert daemon.process is not None

    def parsers(pid: int) -> bool:
        maps = Path(f"/proc/{pid}/maps").read_text()
        return any(name in maps for name in ("libav", "cv2", "onnxruntime"))

    assert parsers(pid), "a worker does, so the test can tell"
    assert not parsers(daemon.process.pid)
    assert daemon.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def test_a_stop_hands_over_what_workers_have_in_hand(daemon: DaemonService) -> None:
    eventually(lambda: worker_of(daemon), "frames")
    assert daemon.stop() == 0
    (camera,) = json.loads((daemon.directory / "status.json").read_text())["cameras"]
    assert camera["counters"]["sent"] == camera["spool"]["spooled"] > 0
    assert not camera["counters"]["dropped"].keys() & {"stopped", "worker_crashed", "worker_hung"}
