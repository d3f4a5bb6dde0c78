"""A power cut at the daemon costs no frame that the spool has taken; `make powercut` cuts many times more."""

import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import pytest
from disk_log import DiskLog, Op, Record
from forgetful_disk import ForgetfulDisk, cut_points, write_out
from spool_writer import CAMERAS, opened, picture

from crow_daemon.spool.spool import START
from crow_shared.errors import CrowError

CUTS = int(os.environ.get("POWERCUT_CUTS", "20"))
SEED = int(os.environ.get("POWERCUT_SEED", "1"))
OPERATIONS = 150

pytestmark = [pytest.mark.timeout(60 + 5 * CUTS)]


@dataclass(slots=True)
class Promises:
    """(epoch, camera, seq) → checksum of what the spool took, and what it may have forgotten since."""

    taken: dict[tuple[str, str, int], int] = field(default_factory=dict)
    released: dict[tuple[str, str], int] = field(default_factory=dict)
    owed_over_all_cuts: int = 0

    def note(self, record: Record) -> None:
        if record.op is Op.PROMISE:
            for epoch, camera, seq, checksum in record.promised.get("appended", ()):
                self.taken[epoch, camera, seq] = checksum
            for epoch, camera, seq in record.promised.get("released", ()):
                self.released[epoch, camera] = max(seq, self.released.get((epoch, camera), 0))

    def owed(self) -> dict[tuple[str, str, int], int]:
        """What must be there."""
        return {
            (epoch, camera, seq): checksum
            for (epoch, camera, seq), checksum in self.taken.items()
            if seq > self.released.get((epoch, camera), 0)
        }


def used(directory: Path, log: DiskLog, seed: int, wrong: str = "nothing") -> ForgetfulDisk:
    """Lets the writer loose on the disk; returns the disk as it was before."""
    before = ForgetfulDisk(log.root)
    program = Path(__file__).with_name("spool_writer.py")
    arguments = [log.root / "state" / "spool", log.log, str(seed), str(OPERATIONS), wrong]
    subprocess.run([sys.executable, program, *arguments], env={**os.environ, **log.environ}, check=True)
    return before


def judge(left: Path, promises: Promises) -> list[str]:
    """What is missing on a disk after a cut. Every frame owed is there and intact, and no number comes twice."""
    faults: list[str] = []
    try:
        spool = opened(left / "state" / "spool")
    except CrowError as error:
        return [f"cannot be opened: {error}"]
    try:
        there = {
            (epoch, spooled.frame.camera_id, spooled.frame.seq): crc32(spooled.frame.payload)
            for epoch in spool.epochs()
            for spooled in spool.read(epoch, START, 100_000)
        }
        missing = [place for place, checksum in promises.owed().items() if there.get(place) != checksum]
        if missing:
            faults.append(f"{len(missing)} of {len(promises.owed())} frames lost: {missing[:3]}")
        fresh = spool.append([picture(random.Random(0), camera) for camera in CAMERAS])
        epoch = spool.epochs()[-1]
        faults += [f"number given out twice: {frame.seq}" for frame in fresh
                   if (epoch, frame.camera_id, frame.seq) in promises.taken]  # fmt: skip
    finally:
        spool.close()
    return faults


def judged(
    before: ForgetfulDisk, log: DiskLog, promises: Promises, cuts: int, chance: random.Random, scratch: Path
) -> tuple[list[str], Path]:
    """Cuts so many times; the faults of all, and the disk as the last one left it."""
    records = list(log.records())
    faults: list[str] = []
    done = 0
    for cut, point in enumerate(cut_points(records, cuts, chance)):
        for record in records[done:point]:
            before.apply(record)
            promises.note(record)
        done = point
        promises.owed_over_all_cuts += len(promises.owed())
        disk = before.after_cut(chance)
        faults += [f"cut {cut} at {point}: {fault}" for fault in judge(write_out(disk, scratch / f"{cut}"), promises)]
    return faults, write_out(disk, scratch / "last")


def test_power_cuts_cost_no_frame_that_was_taken(shim: Path, tmp_path: Path) -> None:
    """One run after the other, each on the disk that the last cut of the one before has left."""
    chance = random.Random(SEED)
    left = write_out({}, tmp_path / "empty")
    promises, runs = Promises(), max(2, CUTS // 20)
    for run in range(runs):
        directory = tmp_path / f"run-{run}"
        directory.mkdir()
        log = DiskLog(directory / "log", left.rename(directory / "root"), shim)
        before = used(directory, log, SEED * 1000 + run)
        faults, left = judged(before, log, promises, CUTS // runs, chance, directory)
        assert faults == []
    print(f"{CUTS} cuts, {promises.owed_over_all_cuts} frames owed over all of them")
    assert promises.owed_over_all_cuts > 20 * CUTS


@pytest.mark.parametrize("wrong", ["no-data-sync", "no-directory-sync"])
def test_the_judge_catches_a_sync_that_is_left_out(shim: Path, tmp_path: Path, wrong: str) -> None:
    """The controls: a judge that finds nothing has to be able to find something."""
    log = DiskLog(tmp_path / "log", write_out({}, tmp_path / "root"), shim)
    before = used(tmp_path, log, SEED, wrong)
    faults, _ = judged(before, log, Promises(), 10, random.Random(SEED), tmp_path)
    assert any("frames lost" in fault for fault in faults)
