"""`crow-daemon camera test`: one screen about a camera, against a real RTSP server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from camera_rig import CANARY, USER, write_clip
from camera_shell import Shell

from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

LOGIN = ("--username", USER, "--password-stdin")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkup")
    return {
        "till": write_clip(folder / "till.mp4", "h264", gop_s=0.5),
        "sparse": write_clip(folder / "sparse.mp4", "h264", gop_s=2),
    }


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crow_daemon.checkup.look.OBSERVED_S", 1.2)


@pytest.fixture
def server(clips: dict[str, Path]) -> Iterator[RtspServer]:
    with ThreadedRtspServer(RtspServer(clips, user=USER, password=CANARY)) as server:
        yield server


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def add(crow: Shell, server: RtspServer, mount: str, *words: str) -> None:
    crow.ok("add", mount, "--url", server.url(mount), *LOGIN, "--gate", "off", *words, stdin=CANARY)


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {check["topic"]: check["verdict"] for check in told["checks"]}


def tried(crow: Shell, *words: str, stdin: str | None = None) -> dict[str, Any]:
    result = crow("test", *words, "--json", stdin=stdin)
    assert CANARY not in result.output
    told = json.loads(result.stdout)
    assert result.exit_code == (0 if told["ok"] else 1)
    return told


def test_a_working_camera_is_told_in_full_and_a_picture_written(
    crow: Shell, server: RtspServer, tmp_path: Path
) -> None:
    picture = tmp_path / "out.jpg"
    add(crow, server, "till")
    told = tried(crow, "till", "--snapshot", str(picture))
    assert (told["ok"], told["codec"], told["width"], told["height"]) == (True, "h264", 320, 240)
    assert told["fps"] == pytest.approx(10, abs=0.5)
    assert told["keyframe_interval_ms"] == pytest.approx(500, abs=20)
    assert 0 < told["first_picture_ms"] < 5000
    assert set(verdicts(told).values()) == {"ok"}
    assert told["mode"] == "keyframe"
    assert told["why"]
    assert told["hour_bytes"] == told["frame_bytes"] * 3600
    assert cv2.imread(str(picture)).shape == (240, 320, 3)


def test_rare_keyframes_are_warned_of_and_change_the_mode(crow: Shell, server: RtspServer) -> None:
    add(crow, server, "sparse")
    told = tried(crow, "sparse")
    assert (told["ok"], verdicts(told)["keyframes"], told["mode"]) == (True, "warning", "decode")
    assert "keyframes come 2.0 s apart" in told["why"]


def test_a_camera_is_tried_before_it_is_added(crow: Shell, server: RtspServer) -> None:
    output = crow.ok("test", "--url", server.url("till"), *LOGIN, stdin=CANARY)
    assert f"ok         login      {USER!r} is let in" in output
    assert json.loads(crow.ok("list", "--json")) == []


def test_a_camera_that_lets_in_everybody_is_warned_of(crow: Shell, clips: dict[str, Path]) -> None:
    with ThreadedRtspServer(RtspServer(clips)) as server:
        assert verdicts(tried(crow, "--url", server.url("till")))["login"] == "warning"


@pytest.mark.parametrize(
    ("ahead_s", "reports", "verdict"), [(0.0, True, "ok"), (60.0, True, "warning"), (0.0, False, "warning")]
)
def test_the_camera_s_clock_is_looked_at(
    ahead_s: float, reports: bool, verdict: str, crow: Shell, server: RtspServer
) -> None:
    server.set_faults("till", Faults(clock_ahead_s=ahead_s, reports=reports))
    told = tried(crow, "--url", server.url("till"), *LOGIN, stdin=CANARY)
    assert verdicts(told)["clock"] == verdict
    assert told["clock_skew_ms"] == (pytest.approx(ahead_s * 1000, abs=500) if reports else None)


def test_a_substream_is_looked_at_too(crow: Shell, server: RtspServer) -> None:
    add(crow, server, "till", "--sub-url", server.url("sparse"), "--gate", "activity")
    assert verdicts(tried(crow, "till"))["substream"] == "ok"
    crow.ok("edit", "till", "--sub-url", server.url("nosuch"))
    told = tried(crow, "till")
    assert (told["code"], verdicts(told)["substream"], verdicts(told)["reading"]) == (
        "stream_not_found",
        "failed",
        "ok",
    )


def test_a_recording_is_tried_without_its_time(crow: Shell, clips: dict[str, Path], tmp_path: Path) -> None:
    told = tried(crow, "--file", str(clips["till"]))
    assert told["fps"] == pytest.approx(10, abs=0.5)
    assert set(verdicts(told).values()) == {"ok"}
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert verdicts(tried(crow, "--file", str(text)))["file"] == "failed"


@pytest.mark.parametrize(
    ("faults", "code", "topic"),
    [
        (Faults(refuse_auth=True), "auth_failed", "login"),
        (Faults(redirect_to="rtsp://192.0.2.1/x"), "redirect_refused", "rtsp"),
        (Faults(endless_headers=True), "answer_too_large", "rtsp"),
        (Faults(stall_after_s=0.0), "stream_stalled", "stream"),
    ],
)
def test_a_camera_that_fails_is_told_on_a_full_screen_with_a_remedy(
    faults: Faults, code: str, topic: str, crow: Shell, server: RtspServer
) -> None:
    server.set_faults("till", faults)
    told = tried(crow, "--url", server.url("till"), *LOGIN, stdin=CANARY)
    found = verdicts(told)
    assert (told["code"], found[topic]) == (code, "failed")
    assert next(check["remedy"] for check in told["checks"] if check["topic"] == topic)
    behind = list(found.values())[list(found).index(topic) + 1 :]
    assert set(behind) <= {"not tried"}
    assert len(found) == 11


@pytest.mark.parametrize(
    ("url", "topic"), [("rtsp://no.such.host.invalid/x", "name"), ("rtsp://127.0.0.1:1/x", "port")]
)
def test_who_is_not_there_is_told_as_such(url: str, topic: str, crow: Shell) -> None:
    told = tried(crow, "--url", url)
    assert verdicts(told)[topic] == "failed"
    assert list(verdicts(told).values()).count("not tried") == 10 - list(verdicts(told)).index(topic)
