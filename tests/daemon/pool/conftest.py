from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_rig import CANARY, USER, write_clip

from crow_daemon.registry.registry import Registry
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoded once for all tests, by codec."""
    folder = tmp_path_factory.mktemp("streams")
    return {"h264": write_clip(folder / "h264.mp4", "h264"), "hevc": write_clip(folder / "hevc.mp4", "hevc")}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "cameras.db")
    yield registry
    registry.close()


@pytest.fixture
def server(streams: dict[str, Path]) -> Iterator[RtspServer]:
    with ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY)) as server:
        yield server
