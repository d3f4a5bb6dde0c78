"""JPEGs of about 150 KB, no two alike: noise that does not compress, made once per run and read by every party."""

from pathlib import Path

import cv2
import numpy as np

PICTURES = 32
WIDTH, HEIGHT = 896, 504


def make(directory: Path, picture_bytes: int) -> None:
    """Writes the pictures; their mean size is within a few percent of `picture_bytes`."""
    directory.mkdir()
    random = np.random.default_rng(1)
    quality = _quality(random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), picture_bytes)
    for number in range(PICTURES):
        noise = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        (directory / f"{number:02d}.jpg").write_bytes(_coded(noise, quality))


def load(directory: Path) -> list[bytes]:
    """The pictures, in order."""
    return [path.read_bytes() for path in sorted(directory.glob("*.jpg"))]


def _quality(noise: "np.typing.NDArray[np.uint8]", picture_bytes: int) -> int:
    return min(range(5, 100), key=lambda quality: abs(len(_coded(noise, quality)) - picture_bytes))


def _coded(picture: "np.typing.NDArray[np.uint8]", quality: int) -> bytes:
    coded, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert coded
    return data.tobytes()
