"""The wall clock jumps by hours, forth and back, under a running line: each frame is in exactly one session.

libfaketime sets the clocks of all processes while they run; the monotonic clock goes on as it does on a real machine.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from counted_line import CountedLine

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

CAMERAS = ("till", "door")
SETTINGS = {"CROW_RECEIVER_SESSION__GAP_S": "60", "CROW_RECEIVER_BATCH__AGE_S": "1"}
JUMP_S = 3600
PER_S = 5
LATE_S = 30.0  # in which the ledger has what was due; a jump that counted would be off by a thousand seconds and more

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


# A capture worker is given no variable that it does not need, so it puts the clock on by itself as Python starts.
# libfaketime takes the processor time of another thread, by which a hung one is told, for the time of day.
PUT_ON = """
import os, sys, time
watch = {environ}
if not watch.keys() <= os.environ.keys():
    os.execve(sys.executable, sys.orig_argv, os.environ | watch)

def clock_gettime(clock, of_others=time.clock_gettime, ticks=os.sysconf("SC_CLK_TCK")):
    if clock >= 0:
        return of_others(clock)
    with open("/proc/self/task/%d/stat" % ~(clock >> 3)) as stat:
        return sum(map(int, stat.read().rpartition(")")[2].split()[11:13])) / ticks

time.clock_gettime = clock_gettime
"""


class Watch:
    """The clock that the processes of a test see."""

    def __init__(self, directory: Path, library: Path) -> None:
        """`directory` will be in Python's path: a confined worker may read what lies there, so its clock does, too."""
        directory.mkdir()
        self._file = directory / "watch"
        self.set(0)
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        (directory / "sitecustomize.py").write_text(PUT_ON.format(environ=self.environ))
        self.environ["PYTHONPATH"] = str(directory)

    def set(self, ahead_s: int) -> None:
        """So far ahead of this process's clock from now on; negative: behind."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}s")
        fresh.replace(self._file)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    return Watch(tmp_path / "clock", found)


@pytest.fixture
def line(tmp_path: Path, shop: RtspServer, watch: Watch) -> Iterator[CountedLine]:
    with (
        ReceiverService(tmp_path / "receiver", SETTINGS | watch.environ) as receiver,
        DaemonService(tmp_path / "daemon", receiver.grpc_address, watch.environ) as daemon,
    ):
        for camera in CAMERAS:
            daemon.add_rtsp(camera, shop.url(camera), "", "", "--fps", str(PER_S))
        running = CountedLine(daemon, receiver, CAMERAS)
        running.wait_for_frames()
        yield running


def expected(line: CountedLine) -> int:
    """Samples of all cameras that were due by now, by the daemon's ledger."""
    return sum(camera["day"]["expected"] for camera in line.daemon.json("status")["cameras"])


def test_each_frame_is_in_one_session_when_the_clock_jumps(watch: Watch, line: CountedLine) -> None:
    began_s, due_before, began_monotonic_s = time.time(), expected(line), time.monotonic()
    for ahead_s in (JUMP_S, -JUMP_S, 0):
        watch.set(ahead_s)
        line.wait_for_frames()
    due = (time.monotonic() - began_monotonic_s) * PER_S * len(CAMERAS)
    assert expected(line) - due_before == pytest.approx(due, abs=LATE_S * PER_S * len(CAMERAS)), "none made, none lost"
    line.drain()
    count = line.count()
    assert count.faults == []
    assert (count.missing, count.failed) == (0, 0)
    starts_ms = [body["windowStart"] for body in line.told if body.get("kind") == "session"]
    hours = {round((start_ms / 1000 - began_s) / JUMP_S) for start_ms in starts_ms}
    assert hours >= {-1, 0, 1}, "each time has sessions of its own"
