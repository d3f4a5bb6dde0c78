"""Promise: a real player (libav) plays every codec over every transport, and is let in with the right password only."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from time import time

import av
import pytest
from av.container import InputContainer

from crow_shared.errors import CrowError, Kind
from crow_sim.rtsp import Faults, RtspServer, ThreadedRtspServer
from crow_sim.rtsp.auth import Scheme
from crow_sim.shop.plan import crossing_scene
from crow_sim.shop.render import Renderer

USER, PASSWORD = "shop", "p@ss w:rd/%"


def opened(url: str, transport: str = "tcp") -> InputContainer:
    return av.open(url, options={"rtsp_transport": transport, "timeout": "5000000"})


def frames_of(container: InputContainer, count: int) -> list[av.VideoFrame]:
    found: list[av.VideoFrame] = []
    for frame in container.decode(video=0):
        found.append(frame)
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {len(found)} frames")


def times_of(frames: list[av.VideoFrame]) -> list[float]:
    """Without the first, which libav gives no time over RTSP."""
    return [float(frame.time or 0) for frame in frames[1:]]


@pytest.mark.parametrize(
    ("codec", "transport", "auth"), [*product(["h264", "hevc"], ["tcp", "udp"], ["digest"]), ("h264", "udp", "basic")]
)
def test_a_player_shows_the_shop_over_the_seam_of_the_loop(
    streams: dict[str, Path], codec: str, transport: str, auth: Scheme
) -> None:
    served = RtspServer({"cam": streams[codec]}, user=USER, password=PASSWORD, auth=auth)
    with ThreadedRtspServer(served) as server, opened(server.url("cam", USER, PASSWORD), transport) as container:
        frames = frames_of(container, 45)  # of 30 in a loop
        assert container.streams.video[0].codec_context.name == codec
        assert (frames[0].width, frames[0].height) == (160, 120)
        steps_s = [late - early for early, late in pairwise(times_of(frames))]
        assert steps_s == pytest.approx([1 / 100] * len(steps_s), abs=0.001)
        shown = frames[0].to_ndarray(format="bgr24").astype(int)
    assert abs(shown - Renderer(crossing_scene(), 160, 120).picture(0.0)).mean() < 8


def test_the_sender_report_tells_a_player_the_wall_clock(streams: dict[str, Path]) -> None:
    before_s = time()
    with ThreadedRtspServer(RtspServer({"cam": streams["h264"]})) as server, opened(server.url("cam")) as container:
        assert before_s - 0.1 < container.start_time_realtime / 1e6 < time()


@pytest.mark.parametrize("auth", ["basic", "digest"])
@pytest.mark.parametrize(("user", "password"), [(None, ""), (USER, "wrong"), ("somebody", PASSWORD)])
def test_who_lacks_the_password_is_refused(
    streams: dict[str, Path], auth: Scheme, user: str | None, password: str
) -> None:
    served = RtspServer({"cam": streams["h264"]}, user=USER, password=PASSWORD, auth=auth)
    with ThreadedRtspServer(served) as server:
        with pytest.raises(av.HTTPUnauthorizedError):
            opened(server.url("cam", user, password))
        assert {request.method for request in server.requests} <= {"OPTIONS", "DESCRIBE"}
        assert any(request.with_credentials for request in server.requests) == (user is not None)


def test_a_camera_that_refuses_on_purpose_refuses_the_right_password(streams: dict[str, Path]) -> None:
    served = RtspServer({"cam": streams["h264"]}, user=USER, password=PASSWORD, faults=Faults(refuse_auth=True))
    with ThreadedRtspServer(served) as server:
        with pytest.raises(av.HTTPUnauthorizedError):
            opened(server.url("cam", USER, PASSWORD))
        server.set_faults("cam", Faults())
        opened(server.url("cam", USER, PASSWORD)).close()


def test_a_player_that_follows_a_redirect_is_seen_by_the_target(streams: dict[str, Path]) -> None:
    with ThreadedRtspServer(RtspServer({"cam": streams["h264"]})) as target:
        faults = Faults(redirect_to=target.url("cam"))
        served = RtspServer({"cam": streams["h264"]}, user=USER, password=PASSWORD, faults=faults)
        with ThreadedRtspServer(served) as server:
            opened(server.url("cam", USER, PASSWORD)).close()
            assert "PLAY" not in {request.method for request in server.requests}
        assert "PLAY" in {request.method for request in target.requests}


def test_a_player_sees_the_switch_to_another_size(streams: dict[str, Path]) -> None:
    faults = Faults(switch_after_s=0.6, switch_to=str(streams["larger"]))
    served = RtspServer({"cam": streams["h264"]}, faults=faults)
    with ThreadedRtspServer(served) as server, opened(server.url("cam")) as container:
        widths = [frame.width for frame in frames_of(container, 90)]
    assert widths[0] == 160
    assert widths[-1] == 320


def test_each_mount_is_served_under_its_own_name(streams: dict[str, Path]) -> None:
    mounts = {"aisle": streams["h264"], "back door": streams["larger"]}
    with ThreadedRtspServer(RtspServer(mounts)) as server:
        for name, width in (("aisle", 160), ("back%20door", 320)):
            with opened(server.url(name)) as container:
                assert container.streams.video[0].width == width
        with pytest.raises(av.HTTPNotFoundError):
            opened(server.url("till"))


def test_32_clients_play_at_once_and_all_of_them_see_time_go_on(streams: dict[str, Path]) -> None:
    all_playing = threading.Barrier(32, timeout=30)

    def watch(transport: str) -> list[float]:
        with opened(server.url("cam"), transport) as container:
            all_playing.wait()
            playing.append(server.players("cam"))
            packets = container.demux(video=0)
            return [
                float(packet.pts * packet.time_base)
                for packet, _ in zip(packets, range(40), strict=False)
                if packet.pts is not None and packet.time_base is not None
            ]

    playing: list[int] = []
    with (
        ThreadedRtspServer(RtspServer({"cam": streams["h264"]})) as server,
        ThreadPoolExecutor(32) as pool,
    ):
        for times_s in pool.map(watch, ["tcp", "udp"] * 16):
            assert len(times_s) >= 30
            assert all(early < late for early, late in pairwise(times_s))
    assert max(playing) == 32


def test_the_address_escapes_what_a_url_gives_a_meaning_to(streams: dict[str, Path]) -> None:
    server = RtspServer({"cam": streams["h264"]}, port=8554)
    assert server.url("cam", "a@b", "c:d/e") == "rtsp://a%40b:c%3Ad%2Fe@127.0.0.1:8554/cam"


def test_a_port_in_use_is_a_typed_error_and_leaves_no_thread(streams: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served = RtspServer({"cam": streams["h264"]}, port=taken.getsockname()[1])
        with pytest.raises(CrowError) as refused, ThreadedRtspServer(served):
            pass
    assert (refused.value.kind, refused.value.code) == (Kind.UNAVAILABLE, "port_unavailable")


def test_a_file_that_cannot_be_served_is_refused_before_anybody_connects(tmp_path: Path) -> None:
    rubbish, other_codec = tmp_path / "rubbish.mp4", tmp_path / "old.mp4"
    rubbish.write_bytes(b"no video")
    with av.open(str(other_codec), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame(64, 48, "yuv420p")), *stream.encode(None)]:
            container.mux(packet)
    expected = {rubbish: Kind.INVALID, tmp_path / "missing.mp4": Kind.INVALID, other_codec: Kind.UNSUPPORTED}
    for path, kind in expected.items():
        with pytest.raises(CrowError, match=path.name) as refused:
            RtspServer({"cam": path})
        assert refused.value.kind is kind
