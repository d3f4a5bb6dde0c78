"""The link between shop and receiver goes down, half open, silent and slow, on one line: each frame arrives, once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counted_line import CountedLine, until
from shop_network import Cable

from crow_sim.line import DaemonService
from crow_sim.rtsp.server import RtspServer

CAMERAS = ("till", "door")
SETTINGS = {"CROW_RECEIVER_SESSION__GAP_S": "60", "CROW_RECEIVER_BATCH__AGE_S": "1"}
NOTICED_S = 20.0

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    with Cable() as laid:
        yield laid


@pytest.fixture(scope="module")
def line(cable: Cable, shop: RtspServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedLine]:
    directory: Path = tmp_path_factory.mktemp("line")
    with (
        cable.receiver(directory / "receiver", SETTINGS) as receiver,
        DaemonService(directory / "daemon", cable.receiver_address) as daemon,
    ):
        for camera in CAMERAS:
            daemon.add_rtsp(camera, shop.url(camera), "", "", "--fps", "10")
        running = CountedLine(daemon, receiver, CAMERAS)
        running.wait_for_frames()
        yield running


def uplink(line: CountedLine) -> dict[str, Any]:
    found: dict[str, Any] = line.daemon.json("status")["uplink"]
    return found


def seconds_until_noticed(line: CountedLine) -> float:
    began = time.monotonic()
    until(lambda: uplink(line)["state"] != "connected" and uplink(line)["last_error"], "not noticed", 40)
    return time.monotonic() - began


def waiting(line: CountedLine) -> int:
    return int(line.daemon.json("status")["spool"]["waiting"])


def connected_again(line: CountedLine) -> None:
    until(lambda: uplink(line)["state"] == "connected", "not connected again", 60)


def test_a_link_that_goes_down_is_noticed_and_taken_up_again(cable: Cable, line: CountedLine) -> None:
    cable.unplug()
    assert seconds_until_noticed(line) < NOTICED_S
    until(lambda: waiting(line) > 20, "no frames wait in the spool")
    cable.plug()
    connected_again(line)


def test_a_half_open_link_is_noticed_and_taken_up_again(cable: Cable, line: CountedLine) -> None:
    cable.silence_receiver()
    assert seconds_until_noticed(line) < NOTICED_S
    cable.let_all_pass()
    connected_again(line)


def test_a_link_too_slow_for_the_cameras_fills_the_spool_and_goes_on(cable: Cable, line: CountedLine) -> None:
    cable.throttle(200)
    before = waiting(line)
    until(lambda: waiting(line) > before + 60, "the spool does not fill")
    analysed = line.analysed()
    until(lambda: line.analysed() > analysed, "nothing comes through the slow link")
    cable.unthrottle()


def test_an_idle_link_that_dies_without_a_word_is_noticed(cable: Cable, line: CountedLine) -> None:
    for camera in CAMERAS:
        line.daemon.run("camera", "disable", camera)
    until(lambda: not waiting(line), "the spool is not empty")
    cable.swallow_all()
    assert seconds_until_noticed(line) < NOTICED_S
    cable.let_all_pass()
    connected_again(line)
    for camera in CAMERAS:
        line.daemon.run("camera", "enable", camera)


def test_after_all_of_that_every_frame_has_arrived_once(line: CountedLine) -> None:
    line.wait_for_frames()
    line.drain()
    count = line.count()
    assert count.faults == []
    assert (count.missing, count.failed) == (0, 0)
    assert line.daemon.stop() == 0
    assert line.receiver.stop() == 0
