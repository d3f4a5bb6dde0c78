"""What a camera does wrong, read in every way: the state says it, the ledger counts it, and nothing false is sent.

Cameras that are wrong at the level of single bytes are in `test_describe`, those that are well in `test_rtsp_capture`.
"""

import time
from pathlib import Path
from typing import Any

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
)
from true_pictures import TruePictures

from crow_daemon.capture.outcome import Missed
from crow_daemon.capture.runner import CameraRunner
from crow_daemon.capture.state import CameraState
from crow_daemon.registry.camera import CaptureMode, ReaderChoice, Transport
from crow_daemon.registry.secret import Credentials, Secret
from crow_sim.rtsp import Faults, RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import write_clip
from crow_sim.shop.plan import crossing_scene

FPS, KEYFRAME_EVERY_S, SECONDS = 25.0, 0.2, 2.0  # a keyframe for each sample
SIZES = {"h264": (640, 360), "hevc": (640, 360), "larger": (800, 448)}  # dozens of packets to a keyframe

READERS = {"pyav": {"reader": ReaderChoice.PYAV}, "direct": {"reader": ReaderChoice.DIRECT}}
WAYS = {
    "keyframe pyav": {"mode": CaptureMode.KEYFRAME, "reader": ReaderChoice.PYAV},
    "decode pyav": {"mode": CaptureMode.DECODE, "reader": ReaderChoice.PYAV},
    "keyframe direct": {"mode": CaptureMode.KEYFRAME, "reader": ReaderChoice.DIRECT},
    "decode direct": {"mode": CaptureMode.DECODE, "reader": ReaderChoice.DIRECT},
}
by_reader = pytest.mark.parametrize("way", READERS.values(), ids=READERS)
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("shop")
    for name, size in SIZES.items():
        codec = "hevc" if name == "hevc" else "h264"
        write_clip(folder / f"{name}.mp4", crossing_scene(), SECONDS, FPS, size, codec, gop_s=KEYFRAME_EVERY_S)
    return {name: folder / f"{name}.mp4" for name in SIZES}


@pytest.fixture(scope="session")
def true_pictures(shop: dict[str, Path]) -> TruePictures:
    return TruePictures(*shop.values())


def served(shop: dict[str, Path], faults: Faults | None = None) -> ThreadedRtspServer:
    mounts = {name: shop[name] for name in ("h264", "hevc")}
    return ThreadedRtspServer(RtspServer(mounts, user=USER, password=CANARY, faults=faults))


def dropped(runner: CameraRunner, reason: Missed) -> int:
    return runner.snapshot().counters.dropped.get(reason, 0)


def in_state(runner: CameraRunner, state: CameraState) -> None:
    eventually(lambda: runner.snapshot().state is state, state)


@by_reader
def test_a_camera_that_is_off_is_unreachable_and_found_when_it_comes(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    with served(shop) as server:
        camera, port = rtsp_camera(server.url("h264"), **way), server.port
    with RunningCamera(camera, sink) as runner:
        eventually(lambda: dropped(runner, Missed.CAMERA_DOWN) > 1, "samples are dropped")
        assert runner.snapshot().state in (CameraState.UNREACHABLE, CameraState.CONNECTING)
        assert runner.snapshot().last_error_code == "unreachable"
        with ThreadedRtspServer(RtspServer(shop, user=USER, password=CANARY, port=port)):
            sink.wait_for(3)
            assert runner.snapshot().last_error is None
    assert_balanced(runner, sink)


@by_reader
def test_a_camera_that_accepts_and_says_nothing_times_out(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    with (
        served(shop, Faults(silent=True)) as server,
        RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().last_error_code == "camera_timeout", "a time-out")
        eventually(lambda: dropped(runner, Missed.CAMERA_DOWN) > 1, "samples are dropped")
    assert_balanced(runner, sink)


@by_reader
def test_a_wrong_password_is_tried_once_and_then_not_soon_again(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    wrong = Credentials(USER, Secret("wrong"))
    with served(shop) as server, RunningCamera(rtsp_camera(server.url("h264"), **way), sink, wrong) as runner:
        in_state(runner, CameraState.AUTH_FAILED)
        time.sleep(0.5)  # more than twice the longest wait after other failures
        assert len([seen for seen in server.requests if seen.with_credentials]) == 1
        eventually(lambda: dropped(runner, Missed.AUTH_FAILED) > 0, "samples are dropped")
    assert_balanced(runner, sink)


@by_reader
@pytest.mark.parametrize("at", ["DESCRIBE", "SETUP", "PLAY"])
def test_a_redirect_to_another_host_is_refused_and_leads_nowhere(
    way: dict[str, Any], at: Any, shop: dict[str, Path], sink: CollectingSink
) -> None:
    with served(shop) as elsewhere:
        faults = Faults(redirect_to=elsewhere.url("h264"), redirect_at=at)
        with (
            served(shop, faults) as server,
            RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner,
        ):
            eventually(lambda: runner.snapshot().last_error is not None, "a failure")
            assert server.requests
        assert elsewhere.requests == []
    assert sink.frames == []
    assert_balanced(runner, sink)


@by_reader
def test_a_redirect_to_itself_is_followed_once(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    with served(shop) as server:
        server.set_faults("h264", Faults(redirect_to=server.url("h264")))
        with RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner:
            in_state(runner, CameraState.REFUSED)
            assert runner.snapshot().last_error_code == "redirect_refused"
            assert len([request for request in server.requests if request.with_credentials]) == 2
            eventually(lambda: dropped(runner, Missed.REFUSED) > 0, "samples are dropped")
    assert_balanced(runner, sink)


@by_reader
def test_headers_without_end_are_given_up_soon(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    with (
        served(shop, Faults(endless_headers=True)) as server,
        RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().last_error_code == "answer_too_large", "given up")
    assert_balanced(runner, sink)


@every_way
def test_a_stream_that_falls_silent_is_stalled_and_read_again(
    way: dict[str, Any], shop: dict[str, Path], sink: CollectingSink
) -> None:
    in_mid_gop = Faults(stall_after_s=1.1)
    with (
        served(shop, in_mid_gop) as server,
        RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().last_error_code == "stream_stalled", "stalled")
        server.set_faults("h264", Faults())
        eventually(lambda: runner.snapshot().reconnects == 1, "live again")
        sink.wait_for(len(sink.frames) + 3)
        assert dropped(runner, Missed.STALLED) >= 10  # at least two seconds at five a second
    assert_balanced(runner, sink)


@every_way
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_loses_packets_is_counted_as_damaged_and_never_sent(
    way: dict[str, Any], codec: str, shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with (
        served(shop, Faults(drop_share=0.02)) as server,
        RunningCamera(rtsp_camera(server.url(codec), **way), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().damaged >= 5, "damage is noticed")
        server.set_faults(codec, Faults())
        sink.wait_for(len(sink.frames) + 3)
    true_pictures.assert_all(sink.frames)
    assert_balanced(runner, sink)


@every_way
def test_a_camera_that_changes_its_size_goes_on_in_the_new_one(
    way: dict[str, Any], shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with served(shop) as server, RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner:
        before = sink.wait_for(2)
        server.set_media("h264", shop["larger"])
        eventually(lambda: sink.frames[-1].width != before[0].width, "the new size")
        frames = sink.wait_for(len(sink.frames) + 3)
    assert {(frame.width, frame.height) for frame in frames} == {SIZES["h264"], SIZES["larger"]}
    true_pictures.assert_all(frames)
    assert_balanced(runner, sink)


@every_way
def test_a_camera_that_changes_its_codec_is_opened_again(
    way: dict[str, Any], shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with served(shop) as server, RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner:
        sink.wait_for(2)
        server.set_media("h264", shop["hevc"])
        eventually(lambda: (info := runner.snapshot().stream) is not None and info.codec == "hevc", "hevc is read")
        sink.wait_for(len(sink.frames) + 3)
    true_pictures.assert_all(sink.frames)
    assert_balanced(runner, sink)


@every_way
@pytest.mark.parametrize(
    "faults",
    [
        Faults(back_after_s=1.0, back_by_s=3600.0),
        Faults(wrap_after_s=1.0),
        Faults(report_every_s=0.2, clock_jump_after_s=1.0, clock_jump_by_s=3600.0),
        Faults(report_every_s=0.2, clock_jump_after_s=1.0, clock_jump_by_s=-20.0),
        Faults(restart_after_s=1.0),
    ],
    ids=["timestamps go back", "timestamps wrap", "clock jumps ahead", "clock jumps back", "encoder restarts"],
)
def test_a_clock_that_misbehaves_neither_reorders_nor_doubles_samples(
    way: dict[str, Any], faults: Faults, shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    began_us = time.time_ns() // 1000
    with served(shop, faults) as server, RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner:
        frames = sink.wait_for(12)
        lasted_us = time.time_ns() // 1000 - began_us
    times_us = [frame.capture_us for frame in frames]
    assert times_us == sorted(set(times_us))
    assert times_us[-1] - times_us[0] < lasted_us + 2_500_000  # at most the departure that a new anchor may have
    true_pictures.assert_all(frames)
    assert_balanced(runner, sink)


@every_way
def test_garbage_between_packets_costs_little_and_is_not_sent(
    way: dict[str, Any], shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with (
        served(shop, Faults(garbage_after_s=0.7)) as server,
        RunningCamera(rtsp_camera(server.url("h264"), **way), sink) as runner,
    ):
        frames = sink.wait_for(15)
    true_pictures.assert_all(frames)
    assert_balanced(runner, sink)


def test_bytes_that_a_camera_corrupts_are_counted_and_never_sent_decoded(
    shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with (
        served(shop, Faults(corrupt_share=0.02, corrupt_bytes=200)) as server,
        RunningCamera(rtsp_camera(server.url("h264"), **WAYS["decode pyav"]), sink) as runner,
    ):
        eventually(lambda: runner.snapshot().damaged >= 5, "damage is noticed")
        server.set_faults("h264", Faults())
        sink.wait_for(len(sink.frames) + 3)
    true_pictures.assert_all(sink.frames)
    assert_balanced(runner, sink)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("mode", [CaptureMode.AUTO, CaptureMode.DECODE])
def test_what_is_lost_over_udp_is_never_sent(
    mode: CaptureMode, codec: str, shop: dict[str, Path], true_pictures: TruePictures, sink: CollectingSink
) -> None:
    with served(shop, Faults(drop_share=0.02)) as server:
        camera = rtsp_camera(server.url(codec), transport=Transport.UDP, mode=mode)
        with RunningCamera(camera, sink, LOGIN) as runner:
            eventually(lambda: runner.snapshot().damaged >= 5, "damage is noticed")
            server.set_faults(codec, Faults())
            sink.wait_for(len(sink.frames) + 3)
    true_pictures.assert_all(sink.frames)
    assert_balanced(runner, sink)
