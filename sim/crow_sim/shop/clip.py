"""Scenes as encoded clips, with their truth beside them."""

import json
from collections.abc import Iterator
from pathlib import Path

from crow_sim.encode import Codec, encode
from crow_sim.shop.figure import Picture
from crow_sim.shop.plan import crossing_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Scene


def write_clip(
    path: Path,
    scene: Scene,
    seconds: float,
    fps: float = 15.0,
    size: tuple[int, int] = (1280, 720),
    codec: Codec = "h264",
    gop_s: float = 1.0,
) -> None:
    """Renders a scene to an MP4 of `size` (width, height: even) and its truth to `<path>.truth.jsonl`.

    The truth has a line of JSON per picture, in order (see `FrameTruth`).
    """
    renderer = Renderer(scene, *size)
    times_s = [number / fps for number in range(round(seconds * fps))]

    def pictures() -> Iterator[Picture]:
        for time_s in times_s:
            yield renderer.picture(time_s)

    encode(path, pictures(), fps, codec, gop_s)
    lines = (json.dumps(renderer.truth(time_s).to_json(), separators=(",", ":")) for time_s in times_s)
    truth_path(path).write_text("".join(f"{line}\n" for line in lines))


def truth_path(clip: Path) -> Path:
    """Where the truth about a clip lies."""
    return clip.with_name(clip.name + ".truth.jsonl")


def small_clip(directory: Path, codec: Codec = "h264") -> Path:
    """A clip for tests: 320 x 240, 10 fps, 6 s, key frames every second, always one person moving.

    It is made once per directory, in under a second.
    """
    path = directory / f"small-{codec}.mp4"
    if not path.exists():
        write_clip(path, crossing_scene(), 6.0, 10.0, (320, 240), codec)
    return path
