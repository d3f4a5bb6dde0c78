"""Cameras over real RTSP: what is read, and what happens when a camera misbehaves."""

import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from camera_rig import (
    CANARY,
    LOGIN,
    USER,
    CollectingSink,
    RunningCamera,
    assert_balanced,
    eventually,
    rtsp_camera,
    write_clip,
)

from crow_daemon.capture import pyav_source
from crow_daemon.capture.outcome import Dropped, Missed
from crow_daemon.capture.state import CameraState
from crow_daemon.gate.gate import GateReason
from crow_daemon.registry.camera import GateMode, Transport
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.relay import relay
from crow_shared.frame import TimeSource
from crow_sim.rtsp.auth import Scheme
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer


def serve(streams: dict[str, Path], faults: Faults | None = None, auth: Scheme = "digest") -> ThreadedRtspServer:
    return ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY, auth=auth, faults=faults))


@pytest.mark.parametrize(
    ("codec", "transport", "auth"),
    [
        ("h264", Transport.TCP, "digest"),
        ("hevc", Transport.TCP, "basic"),
        ("h264", Transport.UDP, "basic"),
        ("hevc", Transport.UDP, "digest"),
    ],
)
def test_samples_come_at_their_rate_with_true_times(
    codec: str, transport: Transport, auth: Scheme, streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams, auth=auth) as server:
        began_us = time.time_ns() // 1000
        with RunningCamera(rtsp_camera(server.url(codec), transport=transport), sink) as runner:
            frames = sink.wait_for(8)
            assert runner.snapshot().state is CameraState.LIVE
    ticks = [frame.capture_us // 200_000 for frame in frames]
    assert all(after - before == 1 for before, after in pairwise(ticks))
    assert frames[0].time_source is TimeSource.CAMERA
    assert began_us - 1_000_000 < frames[0].capture_us < frames[-1].capture_us < time.time_ns() // 1000
    picture = cv2.imdecode(np.frombuffer(frames[-1].payload, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)
    assert abs(int(picture[5, 5].mean()) - 90) < 8
    assert (picture[60:100].astype(int)[:, :, 2] - picture[60:100].astype(int)[:, :, 0]).max() > 120  # still yellow
    assert_balanced(runner, sink)


def test_keyframes_alone_keep_the_rate(streams: dict[str, Path], sink: CollectingSink) -> None:
    with serve(streams) as server, RunningCamera(rtsp_camera(server.url("h264"), sample_interval_ms=500), sink):
        frames = sink.wait_for(10)  # a keyframe every half second: alone from the fourth on
    assert [b.capture_us // 500_000 - a.capture_us // 500_000 for a, b in pairwise(frames)] == [1] * 9


def test_a_wrong_password_is_auth_failed_and_is_not_tried_again_soon(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    wrong = Credentials(USER, Secret("wrong"))
    with serve(streams) as server, RunningCamera(rtsp_camera(server.url("h264")), sink, wrong) as runner:
        eventually(lambda: runner.snapshot().state is CameraState.AUTH_FAILED, "auth_failed")
        time.sleep(0.5)  # ten times the wait after other failures
        assert len([seen for seen in server.requests if seen.with_credentials]) == 1
        eventually(lambda: runner.snapshot().counters.dropped.get(Missed.AUTH_FAILED, 0) > 0, "its samples are missed")
    assert_balanced(runner, sink)


def test_a_camera_that_is_down_is_unreachable_and_found_when_it_comes(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams) as server:
        camera = rtsp_camera(server.url("h264"))
        port = server.port
    with RunningCamera(camera, sink) as runner:
        eventually(lambda: runner.snapshot().counters.dropped.get(Missed.CAMERA_DOWN, 0) > 1, "missed samples")
        assert runner.snapshot().state in (CameraState.UNREACHABLE, CameraState.CONNECTING)
        assert runner.snapshot().last_error_code == "unreachable"
        with ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY, port=port)):
            sink.wait_for(3)
            assert runner.snapshot().last_error is None
    assert_balanced(runner, sink)


@pytest.mark.parametrize("faults", [Faults(close_after_s=1), Faults(reset_after_s=1)])
def test_a_connection_that_ends_is_made_again(faults: Faults, streams: dict[str, Path], sink: CollectingSink) -> None:
    with serve(streams, faults) as server, RunningCamera(rtsp_camera(server.url("h264")), sink) as runner:
        eventually(lambda: runner.snapshot().reconnects >= 2, "two reconnects")
    ticks = [frame.capture_us // 200_000 for frame in sink.frames]
    assert ticks == sorted(set(ticks)), "no tick is sampled twice, reconnects or not"
    assert_balanced(runner, sink)


def test_a_stream_that_stalls_is_noticed_counted_and_read_again(
    streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "READ_TIMEOUT_S", 1.5)
    with (
        serve(streams, Faults(stall_after_s=1)) as server,
        RunningCamera(rtsp_camera(server.url("h264")), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().last_error_code == "stream_stalled", "stalled")
        server.set_faults("h264", Faults())
        eventually(lambda: runner.snapshot().reconnects >= 1, "live again")
        seen = len(sink.frames)
        sink.wait_for(seen + 3)
        missed = runner.snapshot().counters.dropped
    assert missed[Missed.STALLED] >= 1
    # Libav may give the last picture only when the stall ends its wait: until then there was no picture.
    assert missed[Missed.STALLED] + missed.get(Missed.NO_PICTURE, 0) >= 6  # 1.5 s at five a second, one of them pending
    assert_balanced(runner, sink)


def test_the_samples_expected_are_the_time_times_the_rate_through_every_fault(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with serve(streams) as server:
        began_s = time.monotonic()
        with RunningCamera(rtsp_camera(server.url("h264")), sink) as runner:
            for faults in (Faults(close_after_s=0.2), Faults(corrupt_share=0.3), Faults(refuse_auth=False)):
                server.set_faults("h264", faults)
                seen = len(sink.frames)
                sink.wait_for(seen + 2)
            sink.refusing = True
            eventually(lambda: runner.snapshot().counters.dropped.get(Dropped.SPOOL_FULL, 0) >= 2, "a full spool")
        due = (time.monotonic() - began_s) / 0.2
    counters = runner.snapshot().counters
    assert abs(counters.expected - due) <= 4
    assert_balanced(runner, sink)


def test_damaged_pictures_are_left_out_and_counted(streams: dict[str, Path], sink: CollectingSink) -> None:
    with (
        serve(streams, Faults(corrupt_share=0.5)) as server,
        RunningCamera(rtsp_camera(server.url("h264")), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().damaged >= 3, "damage noticed")
    assert_balanced(runner, sink)


def test_a_camera_that_changes_its_codec_is_opened_again(
    streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyav_source, "MIN_PATIENCE_S", 2.0)
    with serve(streams) as server, RunningCamera(rtsp_camera(server.url("h264")), sink) as runner:
        sink.wait_for(3)
        server.set_media("h264", streams["hevc"])
        eventually(lambda: (info := runner.snapshot().stream) is not None and info.codec == "hevc", "hevc is read")
        seen = len(sink.frames)
        sink.wait_for(seen + 3)
    assert_balanced(runner, sink)


def test_timestamps_that_jump_back_cost_no_samples(streams: dict[str, Path], sink: CollectingSink) -> None:
    with (
        serve(streams, Faults(back_after_s=1, back_by_s=3600)) as server,
        RunningCamera(rtsp_camera(server.url("h264")), sink) as runner,
    ):
        frames = sink.wait_for(15)
        assert runner.snapshot().clock_jumps > 0
        assert runner.snapshot().reconnects == 0
    assert frames[-1].capture_us - frames[0].capture_us < 5_000_000
    assert [frame.capture_us for frame in frames] == sorted({frame.capture_us for frame in frames})
    assert_balanced(runner, sink)


def test_a_redirect_to_another_host_is_refused_and_gets_no_credentials(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    with (
        serve(streams) as elsewhere,
        serve(streams, Faults(redirect_to=elsewhere.url("h264"))) as server,
        RunningCamera(rtsp_camera(server.url("h264")), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().state is CameraState.REFUSED, "refused")
        assert runner.snapshot().last_error_code == "redirect_refused"
        assert elsewhere.requests == []


def test_a_still_scene_is_gated_but_for_the_first_sample(streams: dict[str, Path], sink: CollectingSink) -> None:
    still = write_clip(streams["h264"].with_name("still.mp4"), "h264", moving=False)
    with serve({"still": still}) as server:
        camera = rtsp_camera(server.url("still"), gate=GateMode.ACTIVITY)
        with RunningCamera(camera, sink) as runner:
            eventually(lambda: runner.snapshot().counters.gated.get(GateReason.DUPLICATE, 0) >= 8, "gated samples")
    assert len(sink.frames) == 1
    assert_balanced(runner, sink)


def test_a_stop_while_the_camera_is_silent_ends_within_the_read_time_out(
    streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "READ_TIMEOUT_S", 2.0)
    camera_falls_silent = Faults(stall_after_s=1.5)
    with serve(streams, camera_falls_silent) as server, RunningCamera(rtsp_camera(server.url("h264")), sink) as runner:
        sink.wait_for(1)
        time.sleep(1)  # well into the silence
        began_s = time.monotonic()
        runner.stop()
        assert runner.join(4)
    assert time.monotonic() - began_s < 3
    assert runner.snapshot().state is CameraState.STOPPED


def test_the_password_reaches_no_log_error_or_status(
    streams: dict[str, Path], sink: CollectingSink, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    texts: list[str] = []
    for faults in (Faults(close_after_s=0.3), Faults(refuse_auth=True), Faults(endless_headers=True)):
        with serve(streams, faults) as server, RunningCamera(rtsp_camera(server.url("h264")), sink, LOGIN) as runner:
            eventually(lambda r=runner: r.snapshot().last_error is not None, "a failure")
            texts += [str(runner.snapshot()), str(runner.snapshot().as_json()), repr(runner.camera), repr(LOGIN)]
    texts += [*capfd.readouterr(), caplog.text]
    assert texts[0]
    for secret in (CANARY, quote(CANARY, safe="")):
        assert not [text for text in texts if secret in text]
