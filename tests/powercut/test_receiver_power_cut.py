"""A power cut at the receiver costs no acknowledged frame and no message; `make powercut` cuts many times more."""

import os
import random
import sys
from pathlib import Path

import pytest
from disk_log import DiskLog
from receiver_promises import SETTINGS, Promises, Recorded, record_receiver

from crow_sim.line import ReceiverService

CUTS = int(os.environ.get("POWERCUT_CUTS", "20"))
FRAMES = 60  # per camera and run
SEED = int(os.environ.get("POWERCUT_SEED", "1"))

pytestmark = [pytest.mark.line, pytest.mark.timeout(120 + 5 * CUTS)]


async def recorded(
    directory: Path, shim: Path, *wrong: str, promises: Promises | None = None, orderly: bool = False
) -> Recorded:
    log = DiskLog(directory / "log", directory / "receiver", shim)
    receiver = ReceiverService(log.root, SETTINGS | log.environ)
    if wrong:
        receiver.program = (sys.executable, str(Path(__file__).with_name("wrong_receiver_disk.py")), *wrong)
    return await record_receiver(log, receiver, FRAMES, promises or Promises(), orderly=orderly)


async def test_power_cuts_cost_no_acknowledged_frame_and_no_message(shim: Path, tmp_path: Path) -> None:
    """One run after the other, each on the disk that the last cut of the one before has left."""
    chance = random.Random(SEED)
    left, promises, runs = None, Promises(), max(2, CUTS // 25)
    for run in range(runs):
        directory = tmp_path / f"run-{run}"
        directory.mkdir()
        if left is not None:
            left.rename(directory / "receiver")
        recording = await recorded(directory, shim, promises=promises, orderly=chance.random() < 0.5)
        findings, left = recording.judged(CUTS // runs, chance, directory)
        print(findings)
        assert findings.faults == []
        assert findings.promised > FRAMES // 2
        assert findings.messages > findings.cuts


@pytest.mark.parametrize("wrong", ["synchronous-normal", "no-picture-sync"])
async def test_the_judge_catches_what_is_not_synced(shim: Path, tmp_path: Path, wrong: str) -> None:
    """The controls: a judge that finds nothing has to be able to find something."""
    run = await recorded(tmp_path, shim, wrong)
    findings, _ = run.judged(10, random.Random(SEED), tmp_path)
    assert any(("lacks" if wrong == "synchronous-normal" else "damaged") in fault for fault in findings.faults)
