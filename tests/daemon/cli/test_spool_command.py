"""`crow-daemon spool …`, as an operator or a monitor calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from spool_parts import ROOM, frame, segments

from crow_daemon.cli.main import main
from crow_daemon.ledger.database import LedgerDatabase
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.spool import Spool
from crow_shared.clock import SystemClock

HOUR_US = 1_763_800_000_000_000


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROW_DAEMON_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("crow_shared.log.configure", lambda *_: None)  # it is for a process of its own
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Spool:
    made = Spool(directory, ROOM)
    made.append([frame(payload=b"p" * 200, capture_us=HOUR_US + index) for index in range(6)])
    (epoch,) = made.epochs()
    made.release(epoch, {"till": 1})
    made.give_up(epoch, Hole("till", 3, 4, HoleReason.REFUSED, "no picture"))
    made.start_epoch()
    made.append([frame("door", capture_us=HOUR_US)])
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["spool", *words])


def test_status_tells_what_became_of_every_number_beside_a_running_daemon_and_after(spool: Spool) -> None:
    running = run("status", "--json")
    assert running.exit_code == 0
    told = json.loads(running.stdout)
    assert (told["organization_id"], told["site_id"], told["daemon_id"]) == ("local", "shop", "daemon")
    sealed, present = told["epochs"]
    assert [sealed["epoch"], present["epoch"]] == spool.epochs()
    assert [sealed["sealed"], present["sealed"]] == [True, False]
    assert sealed["cameras"] == [
        {
            "camera_id": "till",
            "last_seq": 6,
            "acked_seq": 1,
            "waiting": [[2, 2], [5, 6]],
            "holes": [{"from_seq": 3, "to_seq": 4, "reason": "refused", "detail": "no picture"}],
        }
    ]
    assert present["cameras"][0]["waiting"] == [[1, 1]]
    assert told["bytes"] == spool.stored_bytes
    spool.close()
    assert json.loads(run("status", "--json").stdout) == told


def test_status_for_people_names_holes_with_their_reason(spool: Spool) -> None:
    spool.close()
    shown = run("status").stdout
    assert "spooled 6, acknowledged 1, lost refused 2" in shown
    assert "numbers to 6, acknowledged to 1, waiting 3" in shown
    assert "3 to 4 will not come: refused (no picture)" in shown


def test_check_ends_with_1_and_names_what_is_wrong(spool: Spool, directory: Path) -> None:
    assert run("check").stdout == "2 segments, 4 waiting frames: sound\n"
    spool.close()
    path = segments(directory)[0]
    path.write_bytes(path.read_bytes().replace(b"p" * 200, b"p" * 199 + b"q"))
    result = run("check")
    assert result.exit_code == 1
    assert "segment 1: frame 2 of camera till is damaged" in result.stdout
    assert len(json.loads(run("check", "--json").stdout)["violations"]) == 3
    command = [sys.executable, "-c", "from crow_daemon.cli.main import main; main()", "spool", "repair"]
    repaired = subprocess.run(command, capture_output=True, text=True, check=True)
    assert repaired.stdout == "3 frames given up, 0 segments written anew\n"
    assert len(repaired.stderr.splitlines()) == 3  # the log
    assert run("check").exit_code == 0


def test_repair_and_erase_want_the_daemon_stopped_and_say_so(spool: Spool) -> None:
    span = ("--from", "2025-11-22T08:00:00+00:00", "--to", "2025-11-22T09:00:00+00:00")
    for words in (("repair",), ("erase", "--camera", "till", *span)):
        result = run(*words)
        assert result.exit_code == 2
        assert "systemctl stop crow-daemon" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    spool.close()


def test_a_new_epoch_takes_all_that_waits(spool: Spool, directory: Path) -> None:
    before = spool.epochs()
    spool.close()
    assert run("repair", "--new-epoch").stdout.splitlines()[1] == "4 frames moved to a fresh epoch"
    again = Spool(directory, ROOM)
    assert not set(again.epochs()) & set(before)
    again.close()


def test_frames_that_got_other_numbers_were_sent_once(spool: Spool, directory: Path) -> None:
    for moved in (False, True):
        ledger = SampleLedger(directory.with_name("ledger.db"), SystemClock())
        ledger.begin(spool, [])
        ledger.book.spooled(spool.append([frame(capture_us=HOUR_US + moved)]))
        ledger.finish()
        ledger.close()
        spool.close()
        if not moved:
            assert run("repair", "--new-epoch").exit_code == 0
            spool = Spool(directory, ROOM)
    database = LedgerDatabase(directory.with_name("ledger.db"))
    assert database.sums(0)["till"].sent == 2
    database.close()


def test_erase_makes_pictures_unreadable_and_their_numbers_holes(spool: Spool, directory: Path) -> None:
    spool.close()
    result = run("erase", "--camera", "till", "--from", "2025-11-22T08:00:00Z", "--to", "2025-11-22T09:00:00+00:00")
    assert result.stdout.startswith("6 pictures erased")
    assert not any(b"p" * 10 in path.read_bytes() for path in segments(directory))
    assert run("check").exit_code == 0
    (sealed, _) = json.loads(run("status", "--json").stdout)["epochs"]
    assert [hole["reason"] for hole in sealed["cameras"][0]["holes"]] == ["erased", "refused", "erased"]


@pytest.mark.parametrize("words", [("--to", "2025-11-22T08:00:00Z"), ("--to", "2025-11-22T09:00:00")])
def test_erase_wants_a_span_with_zones(spool: Spool, words: tuple[str, str]) -> None:
    spool.close()
    result = run("erase", "--camera", "till", "--from", "2025-11-22T08:00:00Z", *words)
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["status", "check", "repair"])
def test_without_a_spool_one_line_says_so(directory: Path, command: str) -> None:
    result = run(command)
    assert (result.exit_code, result.stderr) == (2, f"error: there is no spool in {directory}\n")
