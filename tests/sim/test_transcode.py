"""Promise: whatever PyAV reads becomes a clip that can be served, with its pictures at their times."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from crow_shared.errors import CrowError, Kind
from crow_sim.encode import encode
from crow_sim.rtsp.media import load_media
from crow_sim.transcode import transcode_for_serving


def write_lossless(path: Path, levels: list[int], fps: int, size: tuple[int, int], first_s: int = 0) -> Path:
    """A clip of flat pictures of these grey levels, in a container and codec that no camera sends."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"  # keeps odd sizes
        for number, level in enumerate(levels):
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv444p")
            frame.pts, frame.time_base = first_s * fps + number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def levels_of(path: Path) -> list[tuple[float, int]]:
    """Time and mean level of each picture."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert all(frame.time is not None for frame in frames)
    return [(float(frame.time or 0), round(frame.to_ndarray(format="bgr24").mean())) for frame in frames]


def assert_servable(path: Path) -> None:
    """H.264 with a key frame a second, no B-frames, even sizes; and the server takes it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.codec_context.name == "h264"
        assert (stream.width % 2, stream.height % 2) == (0, 0)
        assert stream.average_rate is not None
        gop = round(stream.average_rate)
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, len(packets), gop))
    assert len(load_media(path).units) == len(packets)


@pytest.mark.parametrize("name", ["vtest.avi", "store-aisle-detection.gif", "one-by-one-person-detection.mp4"])
def test_real_footage_becomes_servable(clips: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target.mp4"
    transcode_for_serving(clips / name, target, max_seconds=1.5)
    assert_servable(target)
    with av.open(str(clips / name)) as source, av.open(str(target)) as made:
        wanted, got = next(source.decode(video=0)), next(made.decode(video=0))
        assert (got.width, got.height) == (wanted.width // 2 * 2, wanted.height // 2 * 2)
        one, other = (frame.to_ndarray(format="bgr24")[: got.height, : got.width] for frame in (wanted, got))
    assert np.abs(one.astype(int) - other).mean() < 8


def test_a_slow_clip_of_odd_size_is_repeated_to_five_pictures_a_second(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "slow.mkv", [40, 120, 200], fps=1, size=(65, 49))
    transcode_for_serving(source, tmp_path / "target.mp4")
    assert_servable(tmp_path / "target.mp4")
    seen = levels_of(tmp_path / "target.mp4")
    assert [time_s for time_s, _ in seen] == pytest.approx([number / 5 for number in range(len(seen))])
    assert [level for _, level in seen] == pytest.approx([40] * 5 + [120] * 5 + [200] * (len(seen) - 10), abs=4)
    with av.open(str(tmp_path / "target.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 48)


def test_a_fast_clip_is_thinned_to_25_pictures_a_second_and_keeps_its_length(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "fast.mkv", list(range(20, 220, 2)), fps=100, size=(64, 48))
    transcode_for_serving(source, tmp_path / "target.mp4")
    seen = levels_of(tmp_path / "target.mp4")
    assert len(seen) == pytest.approx(25, abs=1)
    for time_s, level in seen:
        assert level == pytest.approx(20 + time_s * 200, abs=12)


def test_a_clip_whose_clock_starts_late_is_not_preceded_by_a_still(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "late.mkv", [40, 80, 120, 160, 200], fps=5, size=(64, 48), first_s=7)
    transcode_for_serving(source, tmp_path / "target.mp4")
    assert [level for _, level in levels_of(tmp_path / "target.mp4")] == pytest.approx([40, 80, 120, 160, 200], abs=4)


def test_no_more_than_the_asked_seconds_are_written(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "long.mkv", [100] * 50, fps=10, size=(64, 48))
    transcode_for_serving(source, tmp_path / "target.mp4", max_seconds=2.0)
    assert len(levels_of(tmp_path / "target.mp4")) == 20


def test_a_pause_in_the_footage_does_not_outlast_the_asked_seconds(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "still.mkv", [40, 200], fps=1, size=(64, 48))
    with av.open(str(tmp_path / "sparse.mkv"), "w") as target, av.open(str(source)) as footage:
        stream = target.add_stream_from_template(footage.streams.video[0])
        for number, packet in enumerate(packet for packet in footage.demux(video=0) if packet.size):
            packet.stream = stream
            packet.pts = packet.dts = number * 60 * (packet.time_base.denominator if packet.time_base else 1)
            target.mux(packet)
    transcode_for_serving(tmp_path / "sparse.mkv", tmp_path / "target.mp4", max_seconds=3.0)
    seen = levels_of(tmp_path / "target.mp4")
    assert 2.7 < seen[-1][0] < 3.0
    assert {level for _, level in seen} == {seen[0][1]}


def test_times_that_a_container_rounds_neither_repeat_nor_lose_a_picture(tmp_path: Path) -> None:
    levels = list(range(20, 220, 8))
    source = write_lossless(tmp_path / "rounded.mkv", levels, fps=24, size=(64, 48))  # Matroska counts milliseconds
    transcode_for_serving(source, tmp_path / "target.mp4")
    seen = [level for _, level in levels_of(tmp_path / "target.mp4")]
    assert len(seen) == len(levels)
    assert all(4 <= late - early <= 12 for early, late in itertools.pairwise(seen))


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100, b"\0" * 4096])
def test_what_is_no_video_is_refused_and_leaves_nothing_behind(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(content)
    with pytest.raises(CrowError, match=r"source\.mp4") as refused:
        transcode_for_serving(source, tmp_path / "target.mp4")
    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "no_video")
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "sound.wav"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(CrowError, match="holds no video") as refused:
        transcode_for_serving(source, tmp_path / "target.mp4")
    assert refused.value.kind is Kind.INVALID


def test_a_file_cut_off_in_its_middle_is_refused_or_served_but_never_half_written(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    encode(whole, [np.full((48, 64, 3), level, np.uint8) for level in range(60)], 10.0)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(CrowError) as refused:
        transcode_for_serving(cut, tmp_path / "target.mp4")
    assert refused.value.code == "no_video"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mp4", "whole.mp4"]


def test_a_target_that_cannot_be_written_is_not_blamed_on_the_source(tmp_path: Path) -> None:
    source = write_lossless(tmp_path / "source.mkv", [100] * 5, fps=5, size=(64, 48))
    with pytest.raises(CrowError, match=r"cannot write .*target\.mp4") as refused:
        transcode_for_serving(source, tmp_path / "missing" / "target.mp4")
    assert (refused.value.kind, refused.value.code) == (Kind.UNAVAILABLE, "clip_unwritable")
