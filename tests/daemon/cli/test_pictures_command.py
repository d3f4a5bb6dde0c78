"""`crow-daemon grab`, `crow-daemon mosaic`, and the pictures that zones are checked by."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_rig import CANARY, USER, write_clip
from camera_shell import Shell

from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

LOGIN = ("--username", USER, "--password-stdin")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("stills") / "clip.mp4", "h264", gop_s=0.5)


@pytest.fixture
def server(clip: Path) -> Iterator[RtspServer]:
    with ThreadedRtspServer(RtspServer({"till": clip, "door": clip}, user=USER, password=CANARY)) as server:
        yield server


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def add(crow: Shell, server: RtspServer, camera_id: str, *words: str) -> None:
    crow.ok("add", camera_id, "--url", server.url(camera_id), *LOGIN, *words, stdin=CANARY)


def test_a_picture_is_grabbed_in_full_size_from_a_camera_that_is_added_or_not(
    crow: Shell, server: RtspServer, tmp_path: Path
) -> None:
    add(crow, server, "till")
    known = crow.run("grab", "till", "--out", str(tmp_path / "a.jpg"))
    fresh = crow.run("grab", "--url", server.url("door"), *LOGIN, "--out", str(tmp_path / "b.png"), stdin=CANARY)
    for result, name in ((known, "a.jpg"), (fresh, "b.png")):
        assert result.exit_code == 0, result.output
        assert "320x240 h264, taken" in result.output
        assert cv2.imread(str(tmp_path / name)).shape == (240, 320, 3)
    assert sorted(path.name for path in tmp_path.glob("*.*g")) == ["a.jpg", "b.png"]


def test_a_picture_goes_to_standard_output_alone(crow: Shell, clip: Path) -> None:
    result = crow.run("grab", "--file", str(clip), "--out", "-")
    assert result.exit_code == 0
    assert cv2.imdecode(np.frombuffer(result.stdout_bytes, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)
    assert "320x240" in result.stderr


def test_no_picture_is_told_in_one_line_with_exit_code_1_and_no_file(
    crow: Shell, server: RtspServer, tmp_path: Path
) -> None:
    server.set_faults("till", Faults(refuse_auth=True))
    add(crow, server, "till")
    result = crow.run("grab", "till", "--out", str(tmp_path / "a.jpg"))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "a.jpg").exists()
    assert CANARY not in result.output


def test_a_camera_that_sends_nothing_is_given_up_in_time(crow: Shell, server: RtspServer, tmp_path: Path) -> None:
    server.set_faults("till", Faults(stall_after_s=0.0))
    add(crow, server, "till")
    result = crow.run("grab", "till", "--out", str(tmp_path / "a.jpg"), "--timeout", "1")
    assert result.exit_code == 1
    assert "failed: " in result.stderr


@pytest.mark.parametrize("out", ["a.bmp", "a", "none/a.jpg"])
def test_what_cannot_be_written_is_said_before_the_camera_is_asked(out: str, crow: Shell, tmp_path: Path) -> None:
    result = crow.run("grab", "--url", "rtsp://192.0.2.1/x", "--out", str(tmp_path / out))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_masks_are_painted_and_people_blurred_in_what_is_grabbed(crow: Shell, clip: Path, tmp_path: Path) -> None:
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00+01:00")
    crow.ok("mask", "add", "monday", "--area", "0,0 0.5,0 0.5,1 0,1")
    crow.run("grab", "monday", "--out", str(tmp_path / "masked.png"))
    masked = cv2.imread(str(tmp_path / "masked.png"))
    assert masked[:, :158].max() == 0
    assert masked[:, 170:].min() > 0
    crow.ok("mask", "remove", "monday", "1")
    crow.run("grab", "monday", "--out", str(tmp_path / "plain.png"))
    crow.ok("edit", "monday", "--blur", "people")
    crow.run("grab", "monday", "--out", str(tmp_path / "blurred.png"))
    plain, blurred = (cv2.imread(str(tmp_path / name)) for name in ("plain.png", "blurred.png"))
    assert cv2.Laplacian(blurred, cv2.CV_64F).var() < cv2.Laplacian(plain, cv2.CV_64F).var() / 20


def test_a_mosaic_shows_every_camera_and_says_which_gives_no_picture(
    crow: Shell, server: RtspServer, tmp_path: Path
) -> None:
    add(crow, server, "till", "--grid", "0", "1")
    add(crow, server, "door")
    crow.ok("add", "dead", "--url", "rtsp://127.0.0.1:1/x", "--name", "Kühltheke")
    crow.ok("add", "off", "--url", "rtsp://127.0.0.1:1/x", "--disabled")
    path = tmp_path / "m.png"
    result = crow.run("mosaic", "--out", str(path), "--tile-width", "320")
    assert result.exit_code == 1
    assert f"{path}: 2 of 3 cameras" in result.stdout
    assert result.stderr.startswith("dead: ")
    picture = cv2.imread(str(path))
    assert picture.shape == (2 * 198, 2 * 320, 3)
    tiles = {(row, column): picture[row * 198 :, column * 320 :][:180, :320] for row in (0, 1) for column in (0, 1)}
    shown = {place: 80 < tile[90, 60].mean() < 100 for place, tile in tiles.items()}  # the clip's ground is grey
    assert shown == {(0, 0): False, (0, 1): True, (1, 0): True, (1, 1): False}
    assert crow.run("mosaic", "till", "--out", str(path)).exit_code == 0


def test_a_mosaic_of_nothing_is_refused(crow: Shell, tmp_path: Path) -> None:
    assert crow.run("mosaic", "--out", str(tmp_path / "m.jpg")).exit_code == 2
    assert crow.run("mosaic", "none", "--out", str(tmp_path / "m.jpg")).exit_code == 2


def test_zones_and_masks_are_drawn_over_a_fresh_picture(crow: Shell, clip: Path, tmp_path: Path) -> None:
    crow.ok("add", "monday", "--file", str(clip), "--recorded-at", "2026-11-22T09:00:00+01:00")
    path = tmp_path / "zones.png"
    crow.ok("zone", "add", "monday", "Checkout", "--area", "0.5,0.5 1,0.5 1,1 0.5,1", "--snapshot", str(path))
    zoned = cv2.imread(str(path))
    assert (zoned[200, 300] != zoned[200, 10]).any(), "the area is tinted"
    crow.ok("mask", "add", "monday", "--area", "0,0.5 0.25,0.5 0.25,1 0,1", "--snapshot", str(path))
    assert cv2.imread(str(path))[200, 40].max() == 0
    crow.ok("zone", "list", "monday", "--snapshot", str(path))
