"""The daemon's disk is full or turns read-only: it lives, says so, goes on delivering, and accounts for every frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from counted_line import CountedLine, until
from small_disk import FragileDisk, SmallDisk

from crow_shared.errors import CrowError
from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

CAMERAS = ("till", "door")
SETTINGS = {"CROW_RECEIVER_SESSION__GAP_S": "60", "CROW_RECEIVER_BATCH__AGE_S": "1"}

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


@contextmanager
def line(disk: SmallDisk, tmp_path: Path, shop: RtspServer, drop: str = "oldest") -> Iterator[CountedLine]:
    with ReceiverService(tmp_path / "receiver", SETTINGS) as receiver:
        # Without a watermark, so that the disk itself is what ends.
        settings = {"CROW_DAEMON_SPOOL__MIN_FREE_BYTES": "0", "CROW_DAEMON_SPOOL__DROP": drop}
        with DaemonService(disk.directory, receiver.grpc_address, settings) as daemon:
            for camera in CAMERAS:
                daemon.add_rtsp(camera, shop.url(camera), "", "", "--fps", "5")
            running = CountedLine(daemon, receiver, CAMERAS)
            running.wait_for_frames()
            yield running
            running.wait_for_frames()
            running.drain()
            count = running.count()
            assert count.faults == []
            assert count.failed == 0


def lives_and_says_so(daemon: DaemonService) -> None:
    until(lambda: daemon.events("spool does not take frames"), "the log does not say what is wrong", 40)
    until(lambda: "its disk may refuse" in last_word(daemon), "status does not say what is wrong", 40)
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert len(daemon.events("status file cannot be written")) < 10, "not every second"


def last_word(daemon: DaemonService) -> str:
    try:
        return daemon.run("status")
    except CrowError as error:
        return error.message


def test_on_a_full_disk_the_spool_goes_on_in_the_room_of_its_own_files(tmp_path: Path, shop: RtspServer) -> None:
    with SmallDisk(tmp_path / "daemon", 48 << 20) as disk, line(disk, tmp_path, shop) as running:
        disk.fill()
        running.wait_for_frames()
        disk.free()  # for the registry and the ledger, which have no room of their own to go on in


def test_a_full_disk_that_may_not_take_the_oldest_stops_the_spooling_alone(tmp_path: Path, shop: RtspServer) -> None:
    with SmallDisk(tmp_path / "daemon", 48 << 20) as disk, line(disk, tmp_path, shop, "newest") as running:
        disk.fill()
        lives_and_says_so(running.daemon)
        disk.free()
        until(lambda: running.daemon.events("spool takes frames again"), "the spool does not recover")


def test_a_disk_that_turned_read_only_is_survived_until_it_is_repaired(tmp_path: Path, shop: RtspServer) -> None:
    with FragileDisk(tmp_path / "daemon", 48 << 20) as disk, line(disk, tmp_path, shop) as running:
        disk.break_down()
        lives_and_says_so(running.daemon)
        running.daemon.stop()
        disk.repair()
        running.daemon.start()
