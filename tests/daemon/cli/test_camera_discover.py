"""`crow-daemon camera discover`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_shell import Shell

from crow_daemon.cli import camera_discover
from crow_sim.onvif.device import OnvifDevice, OnvifFaults, Profile

USER, PASSWORD = "shop", "s3cret & co"
STREAMS = (
    Profile("door", "H265", 1920, 1080, "rtsp://127.0.0.1:8554/door"),
    Profile("door", "H264", 640, 360, "rtsp://127.0.0.1:8554/door-small"),
    Profile("till", "H264", 1280, 720, "rtsp://127.0.0.1:8554/till"),
)
LOGIN = ("--username", USER, "--password-stdin")


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def device() -> Iterator[OnvifDevice]:
    with OnvifDevice(STREAMS, USER, PASSWORD) as device:
        yield device


def at(device: OnvifDevice) -> tuple[str, str]:
    return "--host", f"localhost:{device.port}"


def test_what_is_found_is_told_with_its_streams(crow: Shell, device: OnvifDevice) -> None:
    told = crow.ok("discover", *at(device), *LOGIN, stdin=PASSWORD)
    assert "Simulated SIM-1" in told
    assert "main  hevc 1920x1080   rtsp://127.0.0.1:8554/door" in told
    assert "sub   h264 640x360     rtsp://127.0.0.1:8554/door-small" in told
    (as_json,) = json.loads(crow.ok("discover", *at(device), *LOGIN, "--json", stdin=PASSWORD))
    assert [channel["main"]["width"] for channel in as_json["channels"]] == [1920, 1280]
    assert PASSWORD not in told
    assert json.loads(crow.ok("list", "--json")) == []


def test_cameras_are_added_once_with_login_and_smaller_stream(crow: Shell, device: OnvifDevice) -> None:
    told = crow.ok("discover", *at(device), *LOGIN, "--add", stdin=PASSWORD)
    assert told.count(" added") == 2
    shown = crow.shown("cam-127-0-0-1-1")
    assert (shown["url"], shown["sub_url"]) == ("rtsp://127.0.0.1:8554/door", "rtsp://127.0.0.1:8554/door-small")
    assert (shown["username"], shown["password"], shown["name"]) == (USER, "set", "Simulated SIM-1 1")
    again = crow.ok("discover", *at(device), *LOGIN, "--add", stdin=PASSWORD)
    assert again.count("is there already") == 2
    assert "is camera cam-127-0-0-1-2" in again


def test_an_id_that_is_taken_keeps_no_other_camera_out(crow: Shell, device: OnvifDevice) -> None:
    crow.ok("add", "cam-127-0-0-1-1", "--url", "rtsp://192.168.1.7/other")
    result = crow("discover", *at(device), *LOGIN, "--add", stdin=PASSWORD)
    assert result.exit_code == 1
    assert "not added: there is a camera 'cam-127-0-0-1-1' already" in result.stderr
    assert "camera cam-127-0-0-1-2 added" in result.stdout


def test_a_login_is_given_for_good_only_to_cameras_that_were_named(crow: Shell) -> None:
    result = crow("discover", *LOGIN, "--add", stdin=PASSWORD)
    assert (result.exit_code, "say which of those that were found are yours" in result.output) == (2, True)


def test_a_camera_that_is_there_gets_the_smaller_stream_that_it_lacks(crow: Shell, device: OnvifDevice) -> None:
    crow.ok("add", "front", "--url", STREAMS[0].uri, "--username", "other", "--password-stdin", stdin="other")
    told = crow.ok("discover", *at(device), *LOGIN, "--add", stdin=PASSWORD)
    assert "camera front: smaller stream filled in" in told
    assert (crow.shown("front")["sub_url"], crow.shown("front")["username"]) == (STREAMS[1].uri, "other")


def test_without_a_login_it_says_that_one_is_wanted(crow: Shell, device: OnvifDevice) -> None:
    result = crow("discover", *at(device))
    assert result.exit_code == 1
    assert "asks for a login: give --username" in result.output


def test_a_stream_on_another_host_is_not_added(crow: Shell) -> None:
    with OnvifDevice([Profile("v", "H264", 640, 360, "rtsp://192.0.2.7/x")]) as device:
        result = crow("discover", *at(device), "--add")
    assert result.exit_code == 1
    assert "not believed" in result.output
    assert json.loads(crow.ok("list", "--json")) == []


def test_the_network_is_looked_through(crow: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with OnvifDevice(STREAMS) as device:
        discover = camera_discover.discover_devices
        monkeypatch.setattr(camera_discover, "discover_devices", lambda wait_s: discover(wait_s, device.discovery))
        assert "Till camera" in crow.ok("discover", "--wait", "0.5")
        device.faults = OnvifFaults(xaddrs="http://192.0.2.7/x")
        refused = crow("discover", "--wait", "0.5")
        assert (refused.exit_code, "another host" in refused.output) == (1, True)
    monkeypatch.setattr(camera_discover, "discover_devices", lambda _wait_s: [])
    nobody = crow("discover", "--wait", "0.5")
    assert (nobody.exit_code, nobody.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("words", [("--host", "no such host"), ("--host", "127.0.0.1:x"), ("--wait", "0")])
def test_what_is_no_address_is_refused_in_one_line(words: tuple[str, str], crow: Shell) -> None:
    assert crow("discover", *words).exit_code in (1, 2)
