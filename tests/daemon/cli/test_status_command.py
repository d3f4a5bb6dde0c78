"""`crow-daemon status`, as an operator or a monitor calls it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crow_daemon import status
from crow_daemon.cli.main import main
from crow_shared.clock import SystemClock


def _status(**changed: Any) -> dict[str, Any]:
    till = {
        "camera_id": "till",
        "state": "live",
        "last_error": None,
        "asked_interval_ms": 0,
        "counters": {
            "expected": 20,
            "sampled": 13,
            "missed": {"camera_down": 4, "connecting": 3},
            "gated": {"no_activity": 2},
            "dropped": {"spool_trouble": 1},
        },
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
        "cameras": [till],
    }
    return whole | changed


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROW_DAEMON_STATE_DIR", str(tmp_path))
    return tmp_path


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["status", *words])


def test_what_became_of_every_sample_is_in_the_line_of_its_camera(state_dir: Path) -> None:
    status.write(state_dir, _status())
    result = _run()
    assert result.exit_code == 0
    counted = "expected 20, sampled 13, missed 7, gated 2, dropped 1; spool: acknowledged 8, waiting 0, lost 2"
    assert result.stdout.splitlines()[-1].endswith(counted)


def test_a_receiver_that_is_behind_is_seen_by_its_closed_window_and_the_pace_it_asks_for(state_dir: Path) -> None:
    whole = _status()
    whole["uplink"]["window_frames"] = 0
    whole["cameras"][0]["asked_interval_ms"] = 2500
    status.write(state_dir, whole)
    uplink, _, camera = _run().stdout.splitlines()[-3:]
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
