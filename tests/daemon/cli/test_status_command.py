"""`crow-daemon status`, as an operator or a monitor calls it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crow_daemon import status
from crow_daemon.cli.main import main
from crow_daemon.ledger.book import Taken
from crow_daemon.ledger.database import LedgerDatabase
from crow_daemon.ledger.tally import Minutes
from crow_shared.clock import SystemClock


def _status(**changed: Any) -> dict[str, Any]:
    till = {
        "camera_id": "till",
        "state": "live",
        "last_error": None,
        "asked_interval_ms": 0,
        "alert": None,
        "stream": None,
        "clock_skew_us": None,
        "counters": {"expected": 13, "sent": 10, "gated": {"no_activity": 2}, "dropped": {"spool_full": 1}},
        "spool": {"spooled": 10, "acknowledged": 8, "waiting": 0, "lost": {"spool_full": 1, "corrupt": 1}},
    }
    whole = {
        "written_us": SystemClock().now_us(),
        "pid": os.getpid(),
        "version": "1",
        "site_id": "shop",
        "daemon_id": "box",
        "uplink": {"receiver": "here:1", "state": "connected", "last_error": None, "window_frames": 8, "backlog": None},
        "spool": {"waiting": 0, "bytes": 0, "max_bytes": 1, "trouble": None},
        "ledger": {"unwritten_minutes": 0, "untold_minutes": 0, "trouble": None},
        "workers": [{"pid": 7, "cameras": ["till"], "memory_bytes": 90_000_000, "losses": {"worker_hung": 1}}],
        "cameras": [till],
    }
    return whole | changed


def write_ledger(state_dir: Path) -> None:
    now_us = SystemClock().now_us()
    minutes = Minutes()
    lately = minutes.at("till", now_us)
    lately.sent, lately.gated["no_activity"], lately.dropped["camera_down"] = 10, 20, 10
    lately.alerts.add("black")
    minutes.at("till", now_us - 5 * 3_600_000_000).dropped["daemon_down"] = 40
    database = LedgerDatabase(state_dir / "ledger.db")
    database.write(Taken(minutes, {}), now_us)
    database.close()


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROW_DAEMON_STATE_DIR", str(tmp_path))
    return tmp_path


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["status", *words])


def test_what_became_of_every_sample_of_the_last_hour_and_day_is_told_with_its_camera(state_dir: Path) -> None:
    status.write(state_dir, _status())
    write_ledger(state_dir)
    result = _run()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-3:] == [
        "  till                 live         spool: acknowledged 8, waiting 0, lost 2",
        "    last hour  75.0 % seen: expected 40, sent 10, gated 20 (no_activity 20), dropped 10 (camera_down 10)",
        "    last day   37.5 % seen: expected 80, sent 10, gated 20 (no_activity 20), "
        "dropped 50 (daemon_down 40, camera_down 10)",
    ]
    (camera,) = json.loads(_run("--json").stdout)["cameras"]
    assert camera["hour"] == {
        "expected": 40,
        "sent": 10,
        "gated": {"no_activity": 20},
        "dropped": {"camera_down": 10},
        "seen_percent": 75.0,
        "alerts": ["black"],
    }


def test_a_ledger_that_the_disk_refuses_is_told(state_dir: Path) -> None:
    status.write(state_dir, _status(ledger={"unwritten_minutes": 5, "untold_minutes": None, "trouble": "disk full"}))
    assert "sample ledger: TROUBLE: disk full" in _run().stdout.splitlines()


def test_a_ledger_that_cannot_be_opened_hides_nothing_of_the_rest(state_dir: Path) -> None:
    status.write(state_dir, _status(written_us=SystemClock().now_us() - 60_000_000))
    (state_dir / "ledger.db").mkdir()  # nobody can open that, as on a disk that turned read-only
    said = _run().stdout
    assert "its disk may refuse" in said
    assert "sample ledger: TROUBLE: cannot open" in said
    assert "    last day   cannot be told" in said.splitlines()
    (camera,) = json.loads(_run("--json").stdout)["cameras"]
    assert camera["day"] is None


def test_where_no_ledger_was_written_nothing_was_due_and_none_is_made(state_dir: Path) -> None:
    status.write(state_dir, _status())
    assert _run().stdout.splitlines()[-1] == "    last day   no sample was due"
    assert not (state_dir / "ledger.db").exists()


def test_something_wrong_with_the_picture_is_told(state_dir: Path) -> None:
    whole = _status()
    whole["cameras"][0]["alert"] = "covered"
    status.write(state_dir, whole)
    assert "lost 2; ALERT: covered" in _run().stdout


def test_how_a_camera_is_read_and_why_is_told_and_a_clock_that_is_far_off(state_dir: Path) -> None:
    whole = _status()
    stream = {"codec": "hevc", "width": 2560, "height": 1440, "reader": "direct", "mode": "keyframe", "why": "it does"}
    whole["cameras"][0] |= {"stream": stream, "clock_skew_us": -42_040_000}
    status.write(state_dir, whole)
    said = "hevc of 2560x1440, reader direct, mode keyframe (it does); its clock is 42.0 s behind\n"
    assert said in _run().stdout
    whole["cameras"][0]["clock_skew_us"] = 150_000
    status.write(state_dir, whole)
    assert "its clock" not in _run().stdout


def test_a_receiver_that_is_behind_is_seen_by_its_closed_window_and_the_pace_it_asks_for(state_dir: Path) -> None:
    whole = _status()
    whole["uplink"]["window_frames"] = 0
    whole["cameras"][0]["asked_interval_ms"] = 2500
    status.write(state_dir, whole)
    uplink, _, _, camera, _, _ = _run().stdout.splitlines()[-6:]
    assert uplink == "uplink to here:1: connected (the receiver takes no frames for now)"
    assert camera.endswith("; the receiver asks for one sample in 2.5 s")


def test_a_backlog_is_shown_with_the_time_that_it_will_take(state_dir: Path) -> None:
    whole = _status()
    backlog = {"frames": 600, "oldest_us": 1_800_000_000_000_000, "frames_per_s": 12.5, "drain_s": 48, "error": None}
    whole["uplink"]["backlog"] = backlog
    status.write(state_dir, whole)
    line = "backlog: 600 frames since 2027-01-15 08:00:00 UTC; 12.5 a second, through in 48 s"
    assert line in _run().stdout.splitlines()
    backlog |= {"frames_per_s": 0, "drain_s": None, "error": "no room"}
    status.write(state_dir, whole)
    assert "; nothing of it moves (no room)" in _run().stdout


def test_a_daemon_that_has_stopped_has_exit_code_1_and_its_last_word_is_shown(state_dir: Path) -> None:
    nobody = (1 << 22) + 1  # above the kernel's highest process id
    status.write(state_dir, _status(written_us=SystemClock().now_us() - 60_000_000, pid=nobody))
    result = _run()
    assert result.exit_code == 1
    assert "NOT running" in result.stdout
    assert json.loads(_run("--json").stdout)["running"] is False


def test_a_daemon_that_never_ran_has_exit_code_1_and_one_line_says_so(state_dir: Path) -> None:
    result = _run()
    assert result.exit_code == 1
    assert result.stderr == f"error: no daemon has run with the state directory {state_dir}\n"


def test_a_daemon_that_lives_and_writes_no_status_is_told_apart_from_one_that_does_not_run(state_dir: Path) -> None:
    status.write(state_dir, _status(written_us=SystemClock().now_us() - 60_000_000))
    result = _run()
    assert result.exit_code == 1
    assert "lives but writes no status: its disk may refuse" in result.stdout
