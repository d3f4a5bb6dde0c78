"""libav behind the relay: what it is given, and how it is left."""

from pathlib import Path
from typing import Any

import av
import pytest
from camera_rig import CANARY, LOGIN, USER, CollectingSink, RunningCamera, rtsp_camera, write_clip

from crow_daemon.capture import rtsp_source
from crow_daemon.registry.camera import RtspAddress, Transport
from crow_daemon.registry.url import CameraUrl
from crow_daemon.relay.relay import Relay
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("relay") / "clip.mp4", "h264")


def serve(clip: Path) -> ThreadedRtspServer:
    return ThreadedRtspServer(RtspServer({"till": clip}, user=USER, password=CANARY))


@pytest.mark.parametrize("transport", list(Transport))
def test_libav_is_given_neither_the_password_nor_the_cameras_address(
    transport: Transport, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real, sink = av.open, CollectingSink()

    def opened(url: str, **how: Any) -> Any:
        given.append((url, how))
        return real(url, **how)

    with serve(clip) as server:
        monkeypatch.setattr(rtsp_source.av, "open", opened)
        with RunningCamera(rtsp_camera(server.url("till"), transport=transport), sink):
            sink.wait_for(1)
        assert str(server.port) not in str(given)
    assert given[0][0].startswith("rtsp://127.0.0.1:")
    assert USER not in str(given)
    assert given[0][1]["options"]["protocol_whitelist"] == "rtsp,rtp,tcp"


def test_a_relay_that_libav_never_asks_gives_all_back(clip: Path) -> None:
    with serve(clip) as server:
        relay = Relay(RtspAddress(CameraUrl.parse(server.url("till")), USER), LOGIN, lambda: 30.0)
        relay.open()
        relay.close()


@pytest.mark.parametrize("transport", list(Transport))
def test_the_camera_is_told_that_nobody_watches_any_more(transport: Transport, clip: Path) -> None:
    sink = CollectingSink()
    with serve(clip) as server:
        with RunningCamera(rtsp_camera(server.url("till"), transport=transport), sink):
            sink.wait_for(1)
        assert server.requests[-1].method == "TEARDOWN"


def test_a_relay_is_interrupted_at_once_while_it_waits_for_libav(clip: Path) -> None:
    with serve(clip) as server:
        relay = Relay(RtspAddress(CameraUrl.parse(server.url("till")), USER), LOGIN, lambda: 30.0)
        relay.open()
        relay.interrupt()
        relay._thread.join(2)
        assert not relay._thread.is_alive()
        relay.close()
