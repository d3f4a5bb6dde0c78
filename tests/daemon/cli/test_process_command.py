"""What `crow-daemon process` refuses, before anything is registered or read."""

import shutil
from pathlib import Path

import pytest
from camera_rig import write_clip
from camera_shell import Shell


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("process") / "20261122T090000Z.mp4", "h264", seconds=1)


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_live_camera_is_not_given_a_recording(crow: Shell, clip: Path) -> None:
    crow.ok("add", "till", "--url", "rtsp://127.0.0.1:1/none")
    result = crow.run("process", str(clip), "--camera", "till")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--camera till-recorded --like till" in result.stderr
    assert crow.shown("till")["url"] == "rtsp://127.0.0.1:1/none"


def test_a_camera_that_reads_another_recording_is_not_given_one(crow: Shell, clip: Path, tmp_path: Path) -> None:
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00Z")
    other = shutil.copy(clip, tmp_path / "20261123T090000Z.mp4")
    result = crow.run("process", str(other), "--camera", "monday")
    assert result.exit_code == 2
    assert "still reading" in result.stderr
    assert crow.shown("monday")["file"] == str(clip)


def test_what_was_read_before_is_said_and_left(crow: Shell, clip: Path) -> None:
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00Z")
    registry = crow.registry()
    registry.mark_finished("monday", registry.get("monday").revision)
    result = crow.run("process", str(clip), "--camera", "monday")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "read before" in result.stderr


def test_what_is_no_recording_or_tells_no_time_is_refused(crow: Shell, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "20261122T090000Z.mp4"
    text.write_text("no video")
    timeless = shutil.copy(clip, tmp_path / "till.mp4")
    (tmp_path / "empty").mkdir()
    for path in (text, timeless, tmp_path / "none.mp4", tmp_path / "empty"):
        result = crow.run("process", str(path), "--camera", "monday")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert crow.run("process", str(clip), "--camera", "Not an id").exit_code == 2
    assert crow.run("process", str(clip), "--camera", "a", "--like", "none").exit_code == 2
    assert crow.registry().cameras() == []
