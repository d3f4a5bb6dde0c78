"""Promise: a written clip is what was asked for, and its truth has a line for each of its pictures."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from crow_sim.encode import Codec, encode
from crow_sim.shop.clip import small_clip, truth_path, write_clip
from crow_sim.shop.plan import crossing_scene
from crow_sim.shop.render import Renderer

GREY = np.full((48, 64, 3), 128, np.uint8)


def pictures_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24").astype(np.uint8) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("codec", "fps", "gop_s"), [("h264", 12.0, 0.5), ("hevc", 12.0, 1.0), ("h264", 12.5, 2.0)])
def test_a_clip_has_the_stated_rate_size_codec_and_key_frames(
    tmp_path: Path, codec: Codec, fps: float, gop_s: float
) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, crossing_scene(), 2.0, fps, (192, 144), codec, gop_s)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert (stream.width, stream.height) == (192, 144)
        assert stream.codec_context.name == codec
        assert stream.average_rate == Fraction(fps)
    assert len(packets) == round(2.0 * fps)
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]  # no B-frames
    gop = round(fps * gop_s)
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, len(packets), gop))
    assert len(truth_path(path).read_text().splitlines()) == len(packets)


def test_each_line_of_the_truth_is_about_its_picture(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, crossing_scene(), 2.0, 5.0, (160, 120))
    renderer = Renderer(crossing_scene(), 160, 120)
    lines = [json.loads(line) for line in truth_path(path).read_text().splitlines()]
    assert [line["time_s"] for line in lines] == pytest.approx([number / 5 for number in range(10)])
    for picture, line in zip(pictures_of(path), lines, strict=True):
        box = line["people"][0]["box"]
        different = np.abs(picture.astype(int) - renderer.empty()).max(axis=2) > 60
        rows, columns = np.nonzero(different[: box["bottom"]])
        assert box["left"] - 3 <= np.median(columns) <= box["right"] + 3
        inside = different[box["top"] : box["bottom"], box["left"] : box["right"]]
        assert inside.mean() > 0.25
        assert inside.sum() > 0.8 * different.sum(), rows


def test_the_small_clip_is_made_once_for_each_codec(tmp_path: Path) -> None:
    path = small_clip(tmp_path)
    made_ns = path.stat().st_mtime_ns
    assert small_clip(tmp_path) == path
    assert path.stat().st_mtime_ns == made_ns
    pictures = pictures_of(path)
    assert (len(pictures), pictures[0].shape) == (60, (240, 320, 3))


def test_a_clip_without_pictures_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        encode(tmp_path / "clip.mp4", [], 10.0)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[NDArray[np.uint8]]:
        yield GREY
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError, match="the renderer broke"):
        encode(tmp_path / "clip.mp4", failing(), 10.0)
    assert list(tmp_path.iterdir()) == []


def test_the_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"

    def watching() -> Iterator[NDArray[np.uint8]]:
        for _ in range(3):
            assert not path.exists()
            yield GREY

    encode(path, watching(), 10.0)
    assert len(pictures_of(path)) == 3
