import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_rig import CollectingSink, eventually, write_clip


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoded once for all tests: by codec, and one of H.264 whose keyframes are far apart."""
    folder = tmp_path_factory.mktemp("streams")
    return {
        "h264": write_clip(folder / "h264.mp4", "h264"),
        "hevc": write_clip(folder / "hevc.mp4", "hevc"),
        "sparse": write_clip(folder / "sparse.mp4", "h264", gop_s=4),
    }


@pytest.fixture
def sink() -> CollectingSink:
    return CollectingSink()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    eventually(lambda: not (set(threading.enumerate()) - before), "all threads ended")
