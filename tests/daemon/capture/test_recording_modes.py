"""Recordings in all modes."""

from pathlib import Path
from typing import Any

import pytest
from camera_rig import CollectingSink, RunningCamera, assert_balanced, eventually, write_clip
from coded_keyframes import decoded_by_libav

from crow_daemon.capture.state import CameraState
from crow_daemon.registry.camera import Camera, CaptureMode, GateMode, Recording
from crow_shared.frame import Encoding, TimeSource
from crow_shared.h26x import inspect_keyframe

START_US = 1_700_000_000_250_000


def recording(path: Path, **fields: Any) -> Camera:
    return Camera("monday", "Monday", Recording(path, START_US), **({"sample_interval_ms": 500} | fields))


def read_whole(camera: Camera, sink: CollectingSink) -> Any:
    with RunningCamera(camera, sink, None) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert_balanced(runner, sink)
    return runner.snapshot()


@pytest.mark.parametrize(
    ("suffix", "codec", "encoding"),
    [
        ("mp4", "h264", Encoding.H264),
        ("mp4", "hevc", Encoding.H265),
        ("mkv", "hevc", Encoding.H265),
        ("mkv", "h264", Encoding.H264),
        ("ts", "h264", Encoding.H264),
    ],
)
def test_keyframes_of_a_recording_are_taken_as_they_are(
    suffix: str, codec: str, encoding: Encoding, tmp_path: Path, sink: CollectingSink
) -> None:
    read = read_whole(recording(write_clip(tmp_path / f"clip.{suffix}", codec)), sink)
    assert (read.stream.mode, read.stream.reader) == ("keyframe", "pyav")
    assert len(sink.frames) == 8
    assert [frame.capture_us for frame in sink.frames] == [
        pytest.approx(START_US + number * 500_000, abs=1000) for number in range(8)
    ]
    for frame in sink.frames:
        assert (frame.encoding, frame.time_source) == (encoding, TimeSource.RECORDING)
        assert inspect_keyframe(encoding, frame.payload) == (320, 240)
        assert len(decoded_by_libav(encoding, frame.payload)) == 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"sample_interval_ms": 200}, "keyframes come 0.5 s apart, samples are due every 0.2 s"),
        ({"mode": CaptureMode.DECODE}, "set to decode"),
        ({"gate": GateMode.ACTIVITY}, "the gate, which has no substream to look at"),
    ],
)
def test_a_recording_is_decoded_where_keyframes_will_not_do(
    fields: dict[str, Any], why: str, streams: dict[str, Path], sink: CollectingSink
) -> None:
    read = read_whole(recording(streams["h264"], **fields), sink)
    assert read.stream.mode == "decode"
    assert why in read.stream.why
    assert {frame.encoding for frame in sink.frames} == {Encoding.JPEG}


def test_a_recording_of_another_codec_is_decoded(tmp_path: Path, sink: CollectingSink) -> None:
    read = read_whole(recording(write_clip(tmp_path / "clip.avi", "mpeg4")), sink)
    assert "this is mpeg4" in read.stream.why
    assert len(sink.frames) == 9


def test_keyframes_that_cannot_be_had_are_refused_with_the_reason(tmp_path: Path, sink: CollectingSink) -> None:
    path = write_clip(tmp_path / "clip.avi", "mpeg4")
    with RunningCamera(recording(path, mode=CaptureMode.KEYFRAME), sink, None) as runner:
        eventually(lambda: runner.snapshot().last_error_code == "mode_impossible", "refused")
        assert runner.snapshot().state is CameraState.UNSUPPORTED


def test_keyframes_that_get_rare_late_in_a_recording_cost_samples_once(
    tmp_path: Path, sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crow_daemon.capture.recording_source._LOOKED_AHEAD_US", 3_000_000)
    keyframes_at_s = (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 6, 9, 12)
    path = write_clip(tmp_path / "clip.mkv", "h264", seconds=16, keyframes_at_s=keyframes_at_s)
    read = read_whole(recording(path), sink)
    assert read.stream.mode == "keyframe"
    assert [frame.encoding for frame in sink.frames].count(Encoding.JPEG) > 12
    assert 32 - len(sink.frames) <= 5, "those of the first long distance"
