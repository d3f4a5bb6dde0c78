"""Recordings: read with their own time, to their end, once."""

from pathlib import Path
from typing import Any

import pytest
from camera_rig import CollectingSink, RunningCamera, assert_balanced, eventually, write_clip

from crow_daemon.capture.outcome import Missed
from crow_daemon.capture.state import CameraState
from crow_daemon.registry.camera import Camera, Recording
from crow_shared.frame import TimeSource

START_US = 1_700_000_000_250_000


def recording(path: Path, interval_ms: int = 300) -> Camera:
    return Camera("monday", "Monday", Recording(path, START_US), sample_interval_ms=interval_ms)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_sample_of_a_recording_comes_with_its_true_time(
    codec: str, streams: dict[str, Path], sink: CollectingSink
) -> None:
    with RunningCamera(recording(streams[codec]), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    pictures_us = [START_US + number * 100_000 for number in range(40)]
    first_of_tick = {time_us // 300_000: time_us for time_us in reversed(pictures_us)}
    assert [frame.capture_us for frame in sink.frames] == pytest.approx(sorted(first_of_tick.values()), abs=1000)
    assert {frame.time_source for frame in sink.frames} == {TimeSource.RECORDING}
    assert runner.snapshot().counters.expected == len(first_of_tick) == 14
    assert_balanced(runner, sink)


def test_where_keyframes_alone_are_decoded_no_sample_but_the_last_is_lost(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with RunningCamera(recording(streams["h264"], interval_ms=500), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    counters = runner.snapshot().counters
    # The recording ends a quarter of a tick after the last tick began: too early for that tick's keyframe.
    assert (counters.expected, counters.sent, counters.dropped) == (9, 8, {Missed.NO_PICTURE: 1})
    assert_balanced(runner, sink)


def read(path: Path, sink: CollectingSink, interval_ms: int) -> None:
    with RunningCamera(recording(path, interval_ms), sink, None) as runner:
        eventually(
            lambda: runner.snapshot().state is CameraState.FINISHED or len(sink.frames) == sink.room, "read as far"
        )


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "ts"])
@pytest.mark.parametrize("interval_ms", [300, 500])  # decoded in order; keyframes by themselves
def test_a_recording_interrupted_after_any_frame_goes_on_with_the_next(
    suffix: str, interval_ms: int, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", "mpeg4" if suffix == "avi" else "h264", seconds=2)
    whole = CollectingSink()
    read(path, whole, interval_ms)
    assert len(whole.frames) >= 4
    for room in range(len(whole.frames) + 1):
        halved = CollectingSink()
        halved.room = room
        read(path, halved, interval_ms)
        halved.room = None
        read(path, halved, interval_ms)
        assert [frame.capture_us for frame in halved.frames] == [frame.capture_us for frame in whole.frames], room


@pytest.mark.parametrize(
    ("clip", "interval_ms"),
    [({"gop_s": 0.4}, 500), ({"fps": 2, "gop_s": 20}, 600)],  # keyframes by themselves; decoded in order
    ids=["keyframes", "slow"],
)
def test_an_interruption_adds_no_frame_where_pictures_are_a_little_less_than_a_tick_apart(
    clip: dict[str, Any], interval_ms: int, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "clip.mp4", "h264", seconds=5, **clip)
    whole = CollectingSink()
    read(path, whole, interval_ms)
    for room in range(1, len(whole.frames)):
        halved = CollectingSink()
        halved.room = room
        read(path, halved, interval_ms)
        halved.room = None
        read(path, halved, interval_ms)
        assert len(whole.frames) - 1 <= len(halved.frames) <= len(whole.frames), room


def test_an_earlier_recording_of_the_camera_is_read_from_its_start(streams: dict[str, Path]) -> None:
    sink = CollectingSink()
    read(streams["h264"], sink, 300)
    for back_us in (3_600_000_000, 5_000_000):
        before = len(sink.frames)
        camera = Camera("monday", "Monday", Recording(streams["h264"], START_US - back_us), sample_interval_ms=300)
        with RunningCamera(camera, sink, None) as runner:
            eventually(lambda it=runner: it.snapshot().state is CameraState.FINISHED, "finished")
        assert len(sink.frames) - before in (13, 14)
        sink.frames = sink.frames[:before]


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "mpeg4"), ("mkv", "h264"), ("mov", "h264"), ("ts", "h264")])
def test_other_containers_are_read(suffix: str, codec: str, tmp_path: Path, sink: CollectingSink) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", codec, seconds=2)
    with RunningCamera(recording(path), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert len(sink.frames) == 7


def test_a_recording_waits_for_room_and_loses_nothing(streams: dict[str, Path], sink: CollectingSink) -> None:
    sink.refusing = True
    with RunningCamera(recording(streams["h264"]), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.LIVE, "live")
        sink.refusing = False
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert len(sink.frames) == 14
    assert_balanced(runner, sink)


def test_a_recording_that_is_stopped_while_it_waits_has_lost_nothing_as_it_goes_on_there(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    sink.refusing = True
    with RunningCamera(recording(streams["h264"]), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.LIVE, "live")
    assert runner.snapshot().counters.expected == 0
    assert runner.snapshot().state is CameraState.STOPPED
    assert_balanced(runner, sink)


def test_a_recording_cut_short_ends_there_and_the_rest_is_missed(tmp_path: Path, sink: CollectingSink) -> None:
    whole = write_clip(tmp_path / "whole.mkv", "h264", seconds=10)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with RunningCamera(recording(cut), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    counters = runner.snapshot().counters
    assert 5 <= len(sink.frames) <= 30
    assert counters.expected == 34
    assert sum(counters.dropped.values()) == 34 - len(sink.frames)
    assert_balanced(runner, sink)


def test_a_recording_with_fewer_pictures_than_samples_due_says_so(tmp_path: Path, sink: CollectingSink) -> None:
    path = write_clip(tmp_path / "slow.mp4", "h264", seconds=8, fps=1)
    with RunningCamera(recording(path, interval_ms=500), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    counters = runner.snapshot().counters
    assert (counters.expected, counters.sent, counters.dropped) == (17, 8, {Missed.NO_PICTURE: 9})


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("text.mp4", b"this is no video", "recording_unreadable"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n", "recording_unreadable"),
        ("list.txt", b"ffconcat version 1.0\nfile /etc/passwd\n", "recording_unreadable"),
        ("empty.mp4", b"", "recording_unreadable"),
    ],
)
def test_what_is_no_video_is_refused_and_opens_nothing_else(
    name: str, content: bytes, code: str, tmp_path: Path, sink: CollectingSink
) -> None:
    (tmp_path / name).write_bytes(content)
    with RunningCamera(recording(tmp_path / name), sink, None) as runner:
        eventually(lambda: runner.snapshot().last_error_code is not None, "a failure")
        assert runner.snapshot().last_error_code == code
    assert sink.frames == []


def test_a_file_name_that_looks_like_a_url_is_a_file_name(tmp_path: Path, sink: CollectingSink) -> None:
    path = write_clip(tmp_path / "concat:a|b 100%.mp4", "h264", seconds=1)
    with RunningCamera(recording(path), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert sink.frames


def test_real_footage_is_read_to_its_end(clips: Path, sink: CollectingSink) -> None:
    with RunningCamera(recording(clips / "vtest.avi", interval_ms=1000), sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert runner.snapshot().counters.dropped == {}
    assert len(sink.frames) > 60
    assert_balanced(runner, sink)
