"""`crow-daemon camera import` and `camera export`."""

import json
from pathlib import Path

import pytest
from camera_shell import Shell

STORE = """
store_id: nike_colombo_01
motion: { enabled: true, ttl_seconds: 5 }
grid: { rows: 2, cols: 2 }
cameras:
  - id: cam_01
    rtsp: rtsp://192.168.1.100:554/stream
    onvif_url: http://192.168.1.100:80
    grid_position: { row: 0, col: 1 }
  - id: Cam 02
    rtsp: rtsp://admin:p%40ss%3Aw%2Ford@192.168.1.101/stream
    colour: red
"""


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def store(crow: Shell, text: str) -> str:
    path = crow.state / "store.yaml"
    path.write_text(text)
    return str(path)


def test_a_store_is_taken_over_and_every_field_is_spoken_of(crow: Shell) -> None:
    told = crow.ok("import", store(crow, STORE))
    first, second = crow.registry().cameras()
    assert (second.id, str(second.source.url)) == ("cam_01", "rtsp://192.168.1.100:554/stream")
    assert (second.gate, second.motion_ttl_s, second.grid_row, second.grid_column) == ("activity", 5.0, 0, 1)
    assert (first.id, first.name, str(first.source.url)) == ("cam-02", "Cam 02", "rtsp://192.168.1.101/stream")
    credentials = crow.registry().credentials("cam-02")
    assert credentials is not None
    assert (credentials.username, credentials.password.reveal()) == ("admin", "p@ss:w/ord")
    for word in ("store_id", "motion.enabled", "motion.ttl_seconds", "grid:", "onvif_url", "grid_position", "colour"):
        assert word in told
    assert "p@ss" not in told
    assert "p%40ss" not in told


def test_an_import_that_is_done_again_changes_nothing(crow: Shell) -> None:
    path = store(crow, STORE)
    crow.ok("import", path)
    version = crow.registry().version()
    assert crow.ok("import", path).count("is so already") == 2
    assert crow.registry().version() == version


def test_an_import_leaves_what_the_file_does_not_speak_of(crow: Shell) -> None:
    crow.ok("import", store(crow, STORE))
    crow.ok("edit", "cam_01", "--fps", "2", "--sub-url", "rtsp://192.168.1.100/sub", "--name", "Till")
    crow.ok("import", store(crow, STORE.replace("ttl_seconds: 5", "ttl_seconds: 3")))
    shown = crow.shown("cam_01")
    assert (shown["sample_interval_ms"], shown["sub_url"], shown["name"]) == (500, "rtsp://192.168.1.100/sub", "Till")
    assert shown["motion_ttl_s"] == 3.0


def test_a_dry_run_says_what_would_be_done_and_does_nothing(crow: Shell) -> None:
    told = crow.ok("import", store(crow, STORE), "--dry-run")
    assert "camera cam_01 would be added" in told
    assert json.loads(crow.ok("list", "--json")) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("cameras: []\nmotion: 7", "motion"),
        ("cameras: [{id: a}]", "cameras[0]"),
        ("cameras: [{id: a, rtsp: 'http://h/x'}]", "rtsp://"),
        ("cameras: [{id: a, rtsp: 'rtsp://u:12/s3cret@h/x'}]", "%2F"),
        ("cameras: [{id: a, rtsp: 'rtsp://u:s3cret@h:99999/x'}]", "host or port"),
        ("cameras: [{id: a, rtsp: 'rtsp://h/'}, {id: A, rtsp: 'rtsp://h/'}]", "another camera"),
        ("cameras: [{id: '!!', rtsp: 'rtsp://h/'}]", "no valid id"),
        ("cameras: [{id: a, rtsp: 'rtsp://h/', grid_position: {row: 99, col: 0}}]", "grid"),
        ("cameras: [{id: a, rtsp: 'rtsp://h/', grid_position: 1}]", "grid_position"),
        ("motion: {ttl_seconds: -1}\ncameras: []", "motion.ttl_seconds"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_taken_over(bad: str, words: str, crow: Shell) -> None:
    text = bad.replace("cameras: [", "cameras: [{id: fine, rtsp: 'rtsp://h/'}, ") if "{id" in bad else bad
    result = crow("import", store(crow, text))
    assert result.exit_code == 2
    assert words.replace("[0]", "[1]") in result.stderr
    assert "s3cret" not in result.output
    assert json.loads(crow.ok("list", "--json")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "cameras: 7",
        "cameras:\n  - id: a\n   rtsp: rtsp://u:s3cret@h/\n",
        "!!python/object/apply:os.system ['touch /tmp/never']",
        "a: " + "[" * 5000,
        "\x00",
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line_that_quotes_nothing(text: str, crow: Shell) -> None:
    result = crow("import", store(crow, text))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "s3cret" not in result.output


def test_a_recording_of_the_same_id_is_not_made_a_camera(crow: Shell) -> None:
    clip = crow.state / "clip.mp4"
    clip.touch()
    crow.ok("add", "cam_01", "--file", str(clip), "--recorded-at", "2026-01-01T00:00:00Z")
    assert crow("import", store(crow, STORE)).exit_code == 2
    assert [camera.id for camera in crow.registry().cameras()] == ["cam_01"]


def test_what_was_exported_imports_to_the_same_cameras_without_their_logins(crow: Shell, tmp_path: Path) -> None:
    crow.ok("import", store(crow, STORE))
    result = crow("export")
    assert "p@ss" not in result.output
    assert "cam-02: its login is left out" in result.stderr
    other = Shell(tmp_path / "other")
    other.state.mkdir()
    other.ok("import", store(other, result.stdout))
    seen = [
        [(camera.id, str(camera.source.url), camera.gate, camera.motion_ttl_s, camera.grid_row) for camera in cameras]
        for cameras in (crow.registry().cameras(), other.registry().cameras())
    ]
    assert seen[0] == seen[1]
