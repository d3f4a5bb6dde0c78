import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_rig import eventually

from crow_sim.shop.clip import write_clip
from crow_sim.shop.plan import crossing_scene

FPS, KEYFRAME_EVERY_S, SECONDS = 100.0, 0.02, 0.3


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The rendered shop by codec; dozens of packets to a keyframe, which every other picture is."""
    folder = tmp_path_factory.mktemp("shop")
    paths = {name: folder / f"{name}.mp4" for name in ("h264", "hevc", "larger")}
    write_clip(paths["h264"], crossing_scene(), SECONDS, FPS, (640, 360), "h264", gop_s=KEYFRAME_EVERY_S)
    write_clip(paths["hevc"], crossing_scene(), SECONDS, FPS, (640, 360), "hevc", gop_s=KEYFRAME_EVERY_S)
    write_clip(paths["larger"], crossing_scene(), SECONDS, FPS, (800, 448), "h264", gop_s=KEYFRAME_EVERY_S)
    return paths


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    eventually(lambda: not (set(threading.enumerate()) - before), "all threads ended")
