"""The streams that the bench serves: the rendered shop with the noise of a sensor, as a camera would code it.

They are made once and kept: some minutes of encoding. The noise is what makes a rendered picture as dear as a real one
(the encoder spends its 4 Mbit/s on it).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_sim.encode import Codec, encode
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.view import VIEWS

SECONDS = 20.0
_NOISE_LEVELS = 4.0  # standard deviation, of 255
_NOISE_FIELDS = 7  # made once; a prime, so that picture and noise do not repeat together


@dataclass(frozen=True, slots=True)
class Stream:
    """One encoded clip: what a camera sends."""

    name: str
    codec: Codec
    width: int
    height: int
    fps: int
    gop_s: float
    bits_per_s: int


STREAMS = {
    stream.name: stream
    for stream in (
        Stream("h264", "h264", 1920, 1080, 25, 1.0, 4_000_000),
        Stream("h265", "hevc", 1920, 1080, 25, 1.0, 4_000_000),
        Stream("h265-2s", "hevc", 1920, 1080, 25, 2.0, 4_000_000),
        Stream("h264-sub", "h264", 640, 360, 15, 2.0, 512_000),
    )
}


def made(directory: Path) -> dict[str, Path]:
    """The clips by stream name; encodes those that are missing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {stream.name: directory / _file_name(stream) for stream in STREAMS.values()}
    for name, path in paths.items():
        if not path.exists():
            stream = STREAMS[name]
            encode(path, _pictures(stream), stream.fps, stream.codec, gop_s=stream.gop_s, bits_per_s=stream.bits_per_s)
    return paths


def _file_name(stream: Stream) -> str:
    parts = (stream.name, stream.codec, stream.height, stream.fps, stream.gop_s, stream.bits_per_s, SECONDS)
    return "-".join(str(part) for part in parts) + ".mp4"


def _pictures(stream: Stream) -> Iterator[NDArray[np.uint8]]:
    renderer = Renderer(planned_scene(VIEWS["aisle"], 1, SECONDS), stream.width, stream.height)
    random = np.random.default_rng(1)
    shape = (stream.height, stream.width, 1)
    fields = [random.normal(0, _NOISE_LEVELS, shape).round().astype(np.int16) for _ in range(_NOISE_FIELDS)]
    for number in range(round(SECONDS * stream.fps)):
        picture = renderer.picture(number / stream.fps)
        noisy = picture + fields[number % _NOISE_FIELDS]
        yield cv2.convertScaleAbs(np.maximum(noisy, 0))
