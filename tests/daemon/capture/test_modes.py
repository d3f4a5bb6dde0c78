"""What frames are made of over real RTSP: keyframes as they are where that does, decoded pictures else."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from camera_rig import CANARY, USER, CollectingSink, RunningCamera, assert_balanced, eventually, rtsp_camera, write_clip
from coded_keyframes import decoded_by_libav

from crow_daemon.capture import pyav_source
from crow_daemon.capture.keyframe_decoder import KeyframeDecoder
from crow_daemon.capture.runner import CameraRunner
from crow_daemon.registry.camera import CaptureMode, GateMode, ReaderChoice, RtspAddress
from crow_daemon.registry.url import CameraUrl
from crow_shared.frame import Encoding, TimeSource
from crow_shared.h26x import inspect_keyframe
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

READ_BY = ReaderChoice.PYAV


def serve(streams: dict[str, Path], faults: Faults | None = None) -> ThreadedRtspServer:
    return ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY, faults=faults))


def auto(url: str, **fields: Any) -> Any:
    """A camera left to choose its mode, sampled as often as its keyframes come."""
    return rtsp_camera(url, **({"sample_interval_ms": 500, "mode": CaptureMode.AUTO, "reader": READ_BY} | fields))


def mode_of(runner: CameraRunner) -> str | None:
    stream = runner.snapshot().stream
    return stream and stream.mode


def keyframes_of(path: Path) -> list[np.ndarray]:
    """The keyframes of a file as its own decoder shows them, in grey."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray", threads=1) for frame in container.decode(video=0) if frame.key_frame]


@pytest.mark.parametrize(("codec", "encoding"), [("h264", Encoding.H264), ("hevc", Encoding.H265)])
def test_keyframes_are_sent_as_they_are_and_nothing_is_decoded_for_it(
    codec: str,
    encoding: Encoding,
    streams: dict[str, Path],
    sink: CollectingSink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KeyframeDecoder, "decode", None)
    with serve(streams) as server, RunningCamera(auto(server.url(codec)), sink) as runner:
        frames = sink.wait_for(6)
        assert (mode_of(runner), runner.snapshot().stream.reader) == ("keyframe", "pyav")  # type: ignore[union-attr]
    originals = keyframes_of(streams[codec])
    for frame in frames:
        assert (frame.encoding, frame.width, frame.height) == (encoding, 320, 240)
        assert inspect_keyframe(encoding, frame.payload) == (320, 240)
        (picture,) = decoded_by_libav(encoding, frame.payload)
        shown = picture.to_ndarray(format="gray", threads=1)
        assert any(np.array_equal(shown, original) for original in originals), "bit by bit one of the file's pictures"
    assert [b.capture_us - a.capture_us for a, b in pairwise(frames)] == [pytest.approx(500_000, abs=50_000)] * 5
    assert {frame.time_source for frame in frames} == {TimeSource.CAMERA}
    # The delay of the fastest picture: libav gives it when the next one comes, a tenth of a second later here.
    assert frames[-1].clock_skew_us == pytest.approx(-150_000, abs=150_000)
    assert_balanced(runner, sink)


def test_where_keyframes_are_rare_the_stream_is_decoded_and_status_says_why(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    rare = {"rare": write_clip(streams["h264"].with_name("rare.mp4"), "h264", gop_s=1.5, seconds=3)}
    with serve(rare) as server, RunningCamera(auto(server.url("rare")), sink) as runner:
        eventually(lambda: mode_of(runner) == "decode", "decoded")
        seen = len(sink.frames)
        frames = sink.wait_for(seen + 4)[-4:]
        assert "keyframes come 1.5 s apart, samples are due every 0.5 s" in runner.snapshot().stream.why  # type: ignore[union-attr]
        assert runner.snapshot().last_error_code is None
    assert {frame.encoding for frame in frames} == {Encoding.JPEG}
    assert [b.capture_us - a.capture_us for a, b in pairwise(frames)] == [pytest.approx(500_000, abs=150_000)] * 3
    assert_balanced(runner, sink)


def test_a_stream_whose_keyframes_become_rare_and_frequent_again_is_followed(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    rare = write_clip(streams["h264"].with_name("rarer.mp4"), "h264", gop_s=1.5, seconds=3)
    with serve(streams) as server, RunningCamera(auto(server.url("h264")), sink) as runner:
        sink.wait_for(5)
        assert mode_of(runner) == "keyframe"
        server.set_media("h264", rare)
        eventually(lambda: mode_of(runner) == "decode", "decoded")
        server.set_media("h264", streams["h264"])
        eventually(lambda: mode_of(runner) == "keyframe", "keyframes again")
        seen = len(sink.frames)
        assert sink.wait_for(seen + 2)[-1].encoding is Encoding.H264
    assert_balanced(runner, sink)


@pytest.mark.parametrize("mode", [CaptureMode.AUTO, CaptureMode.DECODE])
def test_a_camera_that_changes_its_codec_is_opened_again_and_goes_on_in_its_mode(
    mode: CaptureMode, streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyav_source, "MIN_PATIENCE_S", 2.0)
    with serve(streams) as server, RunningCamera(auto(server.url("h264"), mode=mode), sink) as runner:
        sink.wait_for(5)
        server.set_media("h264", streams["hevc"])
        eventually(lambda: (info := runner.snapshot().stream) is not None and info.codec == "hevc", "hevc is read")
        seen = len(sink.frames)
        frame = sink.wait_for(seen + 3)[-1]
    assert frame.encoding is (Encoding.H265 if mode is CaptureMode.AUTO else Encoding.JPEG)
    assert_balanced(runner, sink)


def test_a_resolution_that_changes_in_mid_stream_is_told_by_the_next_frame(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    larger = write_clip(streams["h264"].with_name("larger.mp4"), "h264", size=(640, 480))
    with serve(streams) as server, RunningCamera(auto(server.url("h264")), sink) as runner:
        sink.wait_for(2)
        server.set_media("h264", larger)
        eventually(lambda: sink.frames[-1].width == 640, "the larger pictures")
        assert inspect_keyframe(Encoding.H264, sink.frames[-1].payload) == (640, 480)
        assert runner.snapshot().reconnects == 0
    assert_balanced(runner, sink)


def test_in_decode_mode_only_the_keyframe_that_becomes_a_sample_is_decoded(
    streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    real = KeyframeDecoder.decode
    monkeypatch.setattr(KeyframeDecoder, "decode", lambda *a: decoded.append(1) or real(*a))
    with serve(streams) as server:
        camera = auto(server.url("h264"), mode=CaptureMode.DECODE, sample_interval_ms=2000)
        with RunningCamera(camera, sink) as runner:
            frames = sink.wait_for(4)
    assert {frame.encoding for frame in frames} == {Encoding.JPEG}
    assert 1 <= len(decoded) <= len(sink.frames)
    assert_balanced(runner, sink)


def with_substream(server: RtspServer, main: str, sub: str, **fields: Any) -> Any:
    address = RtspAddress(CameraUrl.parse(server.url(main)), USER, sub_url=CameraUrl.parse(server.url(sub)))
    return auto(server.url(main), source=address, gate=GateMode.ACTIVITY, **fields)


def test_the_gate_looks_at_the_substream_and_the_main_streams_keyframe_is_sent(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    still = write_clip(streams["h264"].with_name("still-main.mp4"), "h264", moving=False, size=(640, 480))
    with (
        serve(streams | {"still": still}) as server,
        RunningCamera(with_substream(server, "still", "h264"), sink) as runner,
    ):
        frames = sink.wait_for(6)  # nothing moves in the main stream: it is the substream that lets them through
        assert mode_of(runner) == "keyframe"
    assert {(frame.encoding, frame.width) for frame in frames} == {(Encoding.H264, 640)}
    assert_balanced(runner, sink)


def test_a_substream_that_is_lost_leaves_the_gate_with_the_main_stream(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams) as server, RunningCamera(with_substream(server, "hevc", "h264"), sink) as runner:
        sink.wait_for(2)
        server.set_faults("h264", Faults(close_after_s=0))
        eventually(lambda: "the substream fails" in (runner.snapshot().stream or auto).why, "the loss is told")  # type: ignore[union-attr]
        seen = len(sink.frames)
        assert sink.wait_for(seen + 3)[-1].encoding is Encoding.H265
    assert_balanced(runner, sink)


def test_the_skew_of_the_cameras_clock_is_told_and_a_clock_that_is_far_off_not_used(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams, Faults(clock_ahead_s=0.7)) as server, RunningCamera(auto(server.url("h264")), sink) as runner:
        frame = sink.wait_for(2)[-1]
        assert frame.time_source is TimeSource.CAMERA
        assert frame.clock_skew_us == pytest.approx(500_000, abs=250_000)
        assert runner.snapshot().clock_skew_us is not None
        server.set_faults("h264", Faults(clock_ahead_s=0.7, clock_jump_after_s=0, report_every_s=0.5))
        eventually(lambda: sink.frames[-1].time_source is TimeSource.ARRIVAL, "the camera's clock is left")
        assert sink.frames[-1].clock_skew_us == pytest.approx(3_600_500_000, abs=300_000)
        assert runner.snapshot().clock_jumps == 1
    times = [frame.capture_us for frame in sink.frames]
    assert times == sorted(set(times))
    assert times[-1] - times[0] < 30_000_000


@pytest.mark.parametrize("faults", [Faults(wrap_after_s=1), Faults(back_after_s=1, back_by_s=3600)])
def test_timestamps_that_wrap_or_go_back_neither_reorder_nor_double_samples(
    faults: Faults, streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams, faults) as server, RunningCamera(auto(server.url("h264")), sink) as runner:
        frames = sink.wait_for(8)
        assert mode_of(runner) == "keyframe"
    distances_us = [after.capture_us - before.capture_us for before, after in pairwise(frames)]
    assert all(250_000 < distance_us < 1_250_000 for distance_us in distances_us)
    assert frames[-1].capture_us - frames[0].capture_us <= 4_500_000
    assert_balanced(runner, sink)
