import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crow_sim.shop.clip import write_clip
from crow_sim.shop.plan import crossing_scene

FPS = 100.0  # fast, since a stream is played in real time
SECONDS = 0.3  # short, so that every test of a stream runs over the seam between two loops


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoded once for all tests: one clip for each codec, and a larger one."""
    folder = tmp_path_factory.mktemp("streams")
    paths = {name: folder / f"{name}.mp4" for name in ("h264", "hevc", "larger")}
    write_clip(paths["h264"], crossing_scene(), SECONDS, FPS, (160, 120), "h264", gop_s=0.1)
    write_clip(paths["hevc"], crossing_scene(), SECONDS, FPS, (160, 120), "hevc", gop_s=0.1)
    write_clip(paths["larger"], crossing_scene(), SECONDS, FPS, (320, 240), "h264", gop_s=0.1)
    return paths


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), f"left running: {thread.name}"
