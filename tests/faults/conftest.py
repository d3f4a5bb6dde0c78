"""Cameras for the lines that are put to trouble."""

from collections.abc import Iterator

import pytest

from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip

CAMERAS = ("till", "door")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    clip = small_clip(tmp_path_factory.mktemp("clips"))
    with ThreadedRtspServer(RtspServer(dict.fromkeys(CAMERAS, clip))) as running:
        yield running
