"""The receiver's disk is full or turns read-only: it lives, says so, and nothing is lost, since daemons keep theirs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from counted_line import CountedLine, free_port, until
from small_disk import FragileDisk, SmallDisk

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

CAMERAS = ("till", "door")
SETTINGS = {
    "CROW_RECEIVER_SESSION__GAP_S": "20",
    "CROW_RECEIVER_BATCH__AGE_S": "1",
}

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


@contextmanager
def line(disk: SmallDisk, tmp_path: Path, shop: RtspServer, min_free_bytes: int = 0) -> Iterator[CountedLine]:
    address = f"127.0.0.1:{free_port()}"
    settings = SETTINGS | {"CROW_RECEIVER_GRPC__LISTEN": address}
    settings["CROW_RECEIVER_RETENTION__MIN_FREE_BYTES"] = str(min_free_bytes)
    with (
        ReceiverService(disk.directory, settings) as receiver,
        DaemonService(tmp_path / "daemon", address) as daemon,
    ):
        for camera in CAMERAS:
            daemon.add_rtsp(camera, shop.url(camera), "", "", "--fps", "5")
        running = CountedLine(daemon, receiver, CAMERAS)
        running.wait_for_frames()
        yield running
        running.wait_for_frames()
        running.drain()
        count = running.count()
        assert count.faults == []
        assert (count.missing, count.failed) == (0, 0)


def obstacles(receiver: ReceiverService) -> str:
    answer = httpx.get(f"{receiver.rest_url}/ready", timeout=10)
    return "" if answer.status_code == 200 else answer.text


def waiting(running: CountedLine) -> int:
    return int(running.daemon.json("status")["spool"]["waiting"])


def lives_and_says_so(running: CountedLine) -> None:
    before = waiting(running)
    until(lambda: waiting(running) > before + 20, "the daemon does not keep its frames")
    until(lambda: "disk" in obstacles(running.receiver), "the receiver does not say what is wrong", 20)
    assert running.receiver.process is not None
    assert running.receiver.process.poll() is None


@pytest.mark.parametrize("min_free_bytes", [0, 8 << 20])
def test_a_full_disk_stops_the_taking_of_frames_and_nothing_else(
    min_free_bytes: int, tmp_path: Path, shop: RtspServer
) -> None:
    with SmallDisk(tmp_path / "receiver", 64 << 20) as disk, line(disk, tmp_path, shop, min_free_bytes) as running:
        assert obstacles(running.receiver) == ""
        disk.fill()
        lives_and_says_so(running)
        disk.free()
        until(lambda: not obstacles(running.receiver), "the receiver does not recover")


def test_a_disk_that_turned_read_only_is_survived_until_it_is_repaired(tmp_path: Path, shop: RtspServer) -> None:
    with FragileDisk(tmp_path / "receiver", 64 << 20) as disk, line(disk, tmp_path, shop) as running:
        disk.break_down()
        lives_and_says_so(running)
        running.receiver.stop()
        disk.repair()
        running.receiver.start()
