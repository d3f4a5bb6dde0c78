"""Promise: the direct reader gives the camera's keyframes, whole and in order, in whatever way they are packed."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from camera_rig import CANARY, USER
from direct_rig import decoded_alone, keyframes_of, pictures_of, reading
from true_pictures import TruePictures

from crow_daemon.capture.keyframe_picture import KeyframePicture
from crow_daemon.direct import reader
from crow_daemon.rtsp import session
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame, TimeSource
from crow_sim.encode import encode
from crow_sim.rtsp import Faults, Packing, RtspServer, ThreadedRtspServer
from crow_sim.rtsp.auth import Scheme
from crow_sim.rtsp.media import AccessUnit

PACKINGS = {
    "plain": Packing(),
    "aggregated": Packing(aggregate=True),
    "with everything in the header": Packing(header_extension=True, csrcs=3, padding_bytes=7),
    "without marks": Packing(marker=False),
    "parameter sets in the stream alone": Packing(parameter_sets="stream"),
    "parameter sets in the description alone": Packing(parameter_sets="description"),
    "beside audio": Packing(audio=True),
    "all at once": Packing(
        aggregate=True, header_extension=True, csrcs=15, padding_bytes=255, marker=False, audio=True
    ),
}


def served(path: Path, faults: Faults | None = None, **options: object) -> ThreadedRtspServer:
    options = {"user": USER, "password": CANARY} | options
    return ThreadedRtspServer(RtspServer({"cam": path}, faults=faults, **options))  # type: ignore[arg-type]


def whole(pictures: list[KeyframePicture | None]) -> list[KeyframePicture]:
    return [picture for picture in pictures if picture is not None]


def sent(picture: KeyframePicture) -> Frame:
    assert picture.coded is not None
    return Frame.of_picture(
        "cam",
        picture.capture_us,
        picture.time_source,
        picture.width,
        picture.height,
        picture.coded.payload,
        picture.coded.encoding,
    )


def without(server: RtspServer, left_out: Callable[[AccessUnit], bool]) -> None:
    """From now on the camera plays its clip without these pictures."""
    mount = server._mounts["cam"]
    mount.media = replace(mount.media, units=tuple(unit for unit in mount.media.units if not left_out(unit)))


def assert_in_order(pictures: list[KeyframePicture], clip: Path) -> None:
    """They are the clip's keyframes, in order, over and over, bit by bit as libav decodes them within their stream."""
    expected = keyframes_of(clip)
    shown = []
    for picture in pictures:
        assert picture.coded is not None
        decoded = decoded_alone(picture.coded.encoding, picture.coded.payload)
        shown.append(next(n for n, keyframe in enumerate(expected) if np.array_equal(decoded, keyframe)))
    assert all(after == (before + 1) % len(expected) for before, after in pairwise(shown)), shown


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_every_keyframe_comes_once_and_decodes_alone_as_within_its_stream(
    codec: str, packing: Packing, shop: dict[str, Path]
) -> None:
    with served(shop[codec], packing=packing) as server, reading(server.url("cam")) as source:
        stream = source.open()
        pictures = whole(pictures_of(source, 7))
    assert (stream.codec, stream.width, stream.height, stream.fps) == (codec, 640, 360, 100.0)
    assert (stream.reader, stream.mode) == ("direct", "keyframe")
    assert len(pictures) == 7
    assert {(picture.width, picture.height) for picture in pictures} == {(640, 360)}
    assert_in_order(pictures, shop[codec])


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_pictures_in_several_slices_are_kept_together(codec: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(10)]
    encode(tmp_path / "slices.mp4", noise, 100, codec, gop_s=0.05, slices=4)  # type: ignore[arg-type]
    with served(tmp_path / "slices.mp4") as server, reading(server.url("cam")) as source:
        source.open()
        assert_in_order(whole(pictures_of(source, 4)), tmp_path / "slices.mp4")


@pytest.mark.parametrize("auth", ["basic", "digest", "digest-sha256"])
def test_the_session_is_kept_alive_with_its_login_through_nonces_that_go_stale(
    auth: Scheme, shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_MOST_SILENT_S", 0.2)
    nonces = None if auth == "basic" else 2
    with (
        served(shop["h264"], auth=auth, nonce_requests=nonces, session_s=1) as server,
        reading(server.url("cam")) as source,
    ):
        source.open()
        began_s = time.monotonic()
        for picture in source.pictures():
            assert picture is not None
            asked = [seen.method for seen in server.requests]
            lasted_s = time.monotonic() - began_s
            if asked.count("GET_PARAMETER") >= 3 and (lasted_s > 1.3 or nonces):  # the session would have ended by now
                break
    assert asked.count("GET_PARAMETER") >= 3
    assert asked.count("PLAY") <= 2


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_keyframe_that_misses_a_packet_is_damaged_and_never_given_out(codec: str, shop: dict[str, Path]) -> None:
    with served(shop[codec], Faults(drop_share=0.02)) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = pictures_of(source, 25)
    assert None in pictures
    assert whole(pictures)
    TruePictures(shop[codec]).assert_all([sent(picture) for picture in whole(pictures)])


def test_garbage_between_packets_costs_no_keyframe(shop: dict[str, Path]) -> None:
    with (
        served(shop["h264"], Faults(garbage_after_s=0.1)) as server,
        reading(server.url("cam")) as source,
    ):
        source.open()
        pictures = pictures_of(source, 10)
    assert_in_order(whole(pictures), shop["h264"])


@pytest.mark.parametrize(
    "faults",
    [Faults(restart_after_s=0.1), Faults(wrap_after_s=0.1), Faults(wrap_after_s=0.1, reports=False)],
    ids=["the encoder restarts", "numbers wrap", "numbers wrap without reports"],
)
def test_times_go_on_evenly_when(faults: Faults, shop: dict[str, Path]) -> None:
    with served(shop["h264"], faults) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = whole(pictures_of(source, 12))
        assert source.clock_jumps == 0
    distances_ms = [round((after.capture_us - before.capture_us) / 1000) for before, after in pairwise(pictures)]
    assert len(pictures) == 12
    assert sum(abs(distance_ms - 20) < 5 for distance_ms in distances_ms) >= 10, distances_ms
    # A new source goes on by our clock, to which pictures of one look may be the same moment.
    assert all(0 <= distance_ms < 300 for distance_ms in distances_ms), distances_ms
    assert abs(pictures[-1].capture_us - time.time_ns() // 1000) < 2_000_000


def test_the_cameras_clock_gives_the_time_and_its_skew_is_told(shop: dict[str, Path]) -> None:
    with served(shop["h264"], Faults(clock_ahead_s=0.5)) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = whole(pictures_of(source, 6))
    assert {picture.time_source for picture in pictures} == {TimeSource.CAMERA}
    assert all(picture.clock_skew_us is not None for picture in pictures)
    assert abs((pictures[-1].clock_skew_us or 0) - 500_000) < 100_000


def test_without_reports_arrival_gives_the_time_and_no_skew_is_told(shop: dict[str, Path]) -> None:
    with served(shop["h264"], Faults(reports=False)) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = whole(pictures_of(source, 4))
        now_us = time.time_ns() // 1000
    assert {(picture.time_source, picture.clock_skew_us) for picture in pictures} == {(TimeSource.ARRIVAL, None)}
    assert 0 <= now_us - pictures[-1].capture_us < 1_000_000


def test_another_resolution_in_mid_stream_is_followed(shop: dict[str, Path]) -> None:
    with served(shop["h264"]) as server, reading(server.url("cam")) as source:
        source.open()
        sizes = []
        for picture in source.pictures():
            if picture is not None:
                sizes.append((picture.width, picture.height))
            if len(sizes) == 2:
                server.set_media("cam", shop["larger"])
            if sizes[-1:] == [(800, 448)]:
                break
    assert sizes[0] == (640, 360)
    assert len(sizes) < 40


@pytest.mark.parametrize(("codec", "other"), [("h264", "hevc"), ("hevc", "h264")])
def test_another_codec_in_mid_stream_ends_the_connection(codec: str, other: str, shop: dict[str, Path]) -> None:
    with served(shop[codec]) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = source.pictures()
        assert next(pictures) is not None
        server.set_media("cam", shop[other])
        with pytest.raises(CrowError) as caught:
            list(pictures)
    assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "stream_undecodable")


def test_a_picture_that_is_refreshed_bit_by_bit_is_for_another_reader(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "refreshed.mp4"), "w") as container:
        stream = container.add_stream(
            "libx264", rate=100, options={"x264-params": "intra-refresh=1:keyint=10:bframes=0"}
        )
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(60):
            picture = np.full((240, 320, 3), number * 4, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    with served(tmp_path / "refreshed.mp4") as server, reading(server.url("cam")) as source:
        without(server, lambda unit: unit.due_s == 0)  # the first picture is a keyframe
        source.open()
        with pytest.raises(CrowError, match="bit by bit") as caught:
            list(source.pictures())
    assert caught.value.code == "direct_unsupported"


def test_a_stream_without_keyframes_for_long_is_for_another_reader(
    shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "FIRST_KEYFRAME_S", 0.5)
    monkeypatch.setattr(reader, "MIN_PATIENCE_S", 0.5)
    with served(shop["h264"]) as server, reading(server.url("cam")) as source:
        without(server, lambda unit: unit.is_key)
        source.open()
        with pytest.raises(CrowError, match=r"no keyframe came within 0\.5 seconds") as caught:
            list(source.pictures())
    assert caught.value.code == "direct_unsupported"


def test_keyframes_that_cease_end_the_connection(shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MIN_PATIENCE_S", 0.5)
    with served(shop["h264"]) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = source.pictures()
        assert [next(pictures), next(pictures)].count(None) == 0
        without(server, lambda unit: unit.is_key)
        with pytest.raises(CrowError) as caught:
            list(pictures)
    assert caught.value.code == "stream_undecodable"


def test_libav_is_never_loaded(shop: dict[str, Path]) -> None:
    script = """if True:
        import sys
        from crow_daemon.capture.capture_time import CaptureClock
        from crow_daemon.capture.keyframe_picture import DecoderOnDemand
        from crow_daemon.direct.source import DirectSource
        from crow_daemon.registry.url import CameraUrl
        from crow_shared.clock import SystemClock
        source = DirectSource(CameraUrl.parse(sys.argv[1]), None, DecoderOnDemand(), SystemClock(), CaptureClock())
        source.open()
        assert next(source.pictures()).coded is not None
        source.stop()
        source.close()
        assert "av" not in sys.modules
    """
    with served(shop["h264"], user=None) as server:
        subprocess.run([sys.executable, "-c", script, server.url("cam")], check=True, timeout=20)
