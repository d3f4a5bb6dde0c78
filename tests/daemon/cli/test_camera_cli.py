"""`crow-daemon camera`, as an operator uses it."""

import json
from pathlib import Path

import click
import pytest
from camera_rig import CANARY, USER, write_clip
from camera_shell import Shell

from crow_daemon.cli.camera import camera

URL = "rtsp://192.168.1.64/stream1"


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("cli") / "clip.mp4", "h264", gop_s=1)


def test_a_camera_is_added_listed_changed_and_removed(crow: Shell) -> None:
    crow.ok("add", "till", "--url", URL, "--name", 'The "big" till / 1', "--fps", "2", "--gate", "activity")
    assert crow.shown("till") | {"name": 'The "big" till / 1', "sample_interval_ms": 500} == crow.shown("till")
    crow.ok("edit", "till", "--fps", "0.5", "--transport", "udp")
    assert (crow.shown("till")["sample_interval_ms"], crow.shown("till")["transport"]) == (2000, "udp")
    assert crow.shown("till")["gate"] == "activity"
    crow.ok("disable", "till")
    assert [one["enabled"] for one in json.loads(crow.ok("list", "--json"))] == [False]
    crow.ok("enable", "till")
    assert "till" in crow.ok("list")
    crow.ok("remove", "till")
    assert json.loads(crow.ok("list", "--json")) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "rtsp:// or rtsps://"),
        ("http://192.168.1.64/video", "rtsp:// or rtsps://"),
        ("concat:a|b", "rtsp:// or rtsps://"),
        (f"rtsp://shop:{'s3cret'}@192.168.1.64/1", "--password-stdin"),
        ("rtsp://192.168.1.64:99999/", "no usable camera URL"),
    ],
)
@pytest.mark.parametrize("command", [("add", "till"), ("test",)])
def test_a_bad_url_is_refused_in_one_line_with_exit_code_2(
    command: tuple[str, ...], url: str, words: str, crow: Shell
) -> None:
    result = crow(*command, "--url", url)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("add", "Till", "--url", URL),
        ("add", "till"),
        ("add", "till", "--url", URL, "--file", "x.mp4"),
        ("add", "till", "--url", URL, "--name", "a\nb"),
        ("add", "till", "--url", URL, "--fps", "31"),
        ("add", "till", "--url", URL, "--fps", "0"),
        ("add", "till", "--url", URL, "--password-stdin"),
        ("add", "till", "--url", URL, "--recorded-at", "2026-01-01T00:00:00Z"),
        ("add", "till", "--file", "/no/such/file.mp4", "--recorded-at", "2026-01-01T00:00:00Z"),
        ("show", "none"),
        ("remove", "none"),
        ("test",),
        ("test", "none"),
    ],
)
def test_bad_input_has_exit_code_2(words: tuple[str, ...], crow: Shell) -> None:
    result = crow(*words)
    assert result.exit_code == 2, result.output
    assert crow.ok("list", "--json").strip() == "[]"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("edit", "till"), "nothing to change is given"),
        (("test", "till", "--transport", "udp"), "--transport does not go with an ID"),
        (("test", "till", "--username", "shop"), "--username does not go with an ID"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: tuple[str, ...], complaint: str, crow: Shell) -> None:
    crow.ok("add", "till", "--url", URL)
    result = crow(*words)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_the_help_of_add_shows_each_example_on_a_line_of_its_own(crow: Shell) -> None:
    lines = [line.strip() for line in crow.ok("add", "--help").splitlines()]
    assert "crow-daemon camera add till --url rtsp://192.168.1.64/stream1 --username shop" in lines


@pytest.mark.parametrize(
    ("options", "gate"),
    [
        ((), "activity"),
        (("--gate", "off"), "off"),
        (("--mode", "keyframe"), "off"),
        (("--mode", "keyframe", "--sub-url", f"{URL}/sub"), "activity"),
    ],
)
def test_a_fresh_camera_is_gated_unless_asked_or_nothing_is_there_to_look_at(
    crow: Shell, options: tuple[str, ...], gate: str
) -> None:
    crow.ok("add", "till", "--url", URL, *options)
    assert crow.shown("till")["gate"] == gate


def test_a_recording_is_sent_whole(crow: Shell, tmp_path: Path) -> None:
    clip = tmp_path / "till.mp4"
    clip.touch()
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00+01:00")
    assert crow.shown("monday")["gate"] == "off"


def test_an_id_that_is_taken_is_refused(crow: Shell) -> None:
    crow.ok("add", "till", "--url", URL)
    assert crow("add", "till", "--url", URL).exit_code == 2


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("way", ["stdin", "file"])
def test_a_password_comes_by_stdin_or_file_and_is_never_shown(
    way: str, ending: str, crow: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_bytes((CANARY + ending).encode())
    how = ["--password-stdin"] if way == "stdin" else ["--password-file", str(file)]
    output = crow.ok("add", "till", "--url", URL, "--username", USER, *how, stdin=CANARY + ending)
    credentials = crow.registry().credentials("till")
    assert credentials is not None
    assert credentials.password.reveal() == CANARY
    output += crow.ok("show", "till") + crow.ok("show", "till", "--json") + crow.ok("list") + crow.ok("list", "--json")
    assert CANARY not in output
    assert crow.shown("till")["password"] == "set"
    crow.ok("edit", "till", "--no-login")
    assert (crow.shown("till")["username"], crow.shown("till")["password"]) == (None, "not set")


@pytest.mark.parametrize("password", ["a\nb", "x" * 300, "tab\there"])
def test_a_password_that_cannot_be_one_is_refused_and_not_repeated(password: str, crow: Shell) -> None:
    result = crow("add", "till", "--url", URL, "--username", USER, "--password-stdin", stdin=password)
    assert result.exit_code == 2
    assert password not in result.output


def test_a_recording_needs_its_time_with_a_zone(crow: Shell, clip: Path) -> None:
    assert crow("add", "monday", "--file", str(clip)).exit_code == 2
    assert crow("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00").exit_code == 2
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00+01:00")
    shown = crow.shown("monday")
    assert (shown["kind"], shown["recorded_at"]) == ("file", "2026-11-22T08:00:00+00:00")
    crow.ok("edit", "monday", "--recorded-at", "2026-11-22T10:00:00+01:00")
    assert crow.shown("monday")["recorded_at"] == "2026-11-22T09:00:00+00:00"
    assert crow("edit", "monday", "--username", "x").exit_code == 2


def test_every_command_and_option_has_help() -> None:
    assert isinstance(camera, click.Group)
    for command in camera.commands.values():
        assert command.help
        assert not [option.name for option in command.params if isinstance(option, click.Option) and not option.help]


def test_a_user_name_without_a_way_to_give_the_password_is_refused(crow: Shell) -> None:
    done = crow("add", "till", "--url", "rtsp://10.0.0.9/1", "--username", "shop")
    assert done.exit_code == 2
    assert "--password-stdin" in done.stderr


def test_a_maker_s_name_fills_in_both_streams(crow: Shell) -> None:
    crow.ok("add", "door", "--vendor", "hikvision", "--host", "192.168.1.64", "--channel", "2")
    shown = crow.shown("door")
    assert shown["url"] == "rtsp://192.168.1.64/Streaming/Channels/201"
    assert shown["sub_url"] == "rtsp://192.168.1.64/Streaming/Channels/202"
    crow.ok("edit", "door", "--no-sub-url")
    assert crow.shown("door")["sub_url"] is None
    assert "rtsp://{host}/Streaming/Channels/{channel}01" in crow.ok("vendors")


@pytest.mark.parametrize(
    "words",
    [
        ("--vendor", "hikvision"),
        ("--vendor", "hikvision", "--host", "10.0.0.9", "--url", URL),
        ("--url", URL, "--channel", "2"),
        ("--vendor", "acme", "--host", "10.0.0.9"),
    ],
)
def test_a_maker_s_options_go_together_or_not_at_all(words: tuple[str, ...], crow: Shell) -> None:
    assert crow("add", "door", *words).exit_code == 2
    assert json.loads(crow.ok("list", "--json")) == []
