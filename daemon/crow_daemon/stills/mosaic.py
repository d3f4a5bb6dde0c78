"""One picture of many cameras: each in its place, with its name and the time at which it was taken."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from crow_daemon.capture.source import Bgr
from crow_daemon.registry.camera import Camera
from crow_daemon.stills.overlay import text_width, write_text
from crow_daemon.stills.still import Still
from crow_shared.errors import CrowError, Kind

MOST_PIXELS = 64_000_000
_CAPTION_SHARE = 0.1  # of a tile's height, for the line below the picture
_GROUND, _INK, _TROUBLE = (24, 24, 24), (235, 235, 235), (120, 120, 255)

Place = tuple[int, int]  # row, column


@dataclass(frozen=True, slots=True)
class Tile:
    """A camera and what came of asking it for a picture."""

    camera: Camera
    seen: Still | CrowError


def places(cameras: Sequence[Camera]) -> list[Place]:
    """Where each camera goes: to the place that it was given, else to a free one, row by row.

    Of two cameras with one place the first one has it. Without any given place the grid is about square.
    """
    found: dict[int, Place] = {}
    for index, camera in enumerate(cameras):
        if camera.grid_row is not None and camera.grid_column is not None:
            place = (camera.grid_row, camera.grid_column)
            if place not in found.values():
                found[index] = place
    columns = max([math.ceil(math.sqrt(len(cameras))), *(column + 1 for _, column in found.values())])
    free = (divmod(number, columns) for number in range(len(cameras) * columns + columns**2))
    for index in range(len(cameras)):
        if index not in found:
            found[index] = next(place for place in free if place not in found.values())
    return [found[index] for index in range(len(cameras))]


def checked_size(cameras: Sequence[Camera], tile_width: int) -> tuple[int, int]:
    """Height and width of their mosaic, in pixels. Raises CrowError(TOO_LARGE) above `MOST_PIXELS`."""
    where = places(cameras)
    rows, columns = 1 + max(row for row, _ in where), 1 + max(column for _, column in where)
    height, width = rows * sum(_tile_heights(tile_width)), columns * tile_width
    if height * width > MOST_PIXELS:
        raise CrowError(
            Kind.TOO_LARGE,
            "mosaic_too_large",
            f"{rows} rows and {columns} columns of cameras, each {tile_width} pixels wide, make a picture of {width} x "
            f"{height} pixels: give a smaller --tile-width, or places (`camera edit ID --grid`) without holes",
        )
    return height, width


def compose(tiles: Sequence[Tile], tile_width: int) -> Bgr:
    """The mosaic; a tile is 16:9 and `tile_width` pixels wide, with a line below it. Raises as `checked_size` does."""
    cameras = [tile.camera for tile in tiles]
    picture_height, caption_height = _tile_heights(tile_width)
    tile_height = picture_height + caption_height
    mosaic = np.full((*checked_size(cameras, tile_width), 3), _GROUND, np.uint8)
    where = places(cameras)
    for tile, (row, column) in zip(tiles, where, strict=True):
        top, left = row * tile_height, column * tile_width
        _draw(mosaic[top : top + tile_height, left : left + tile_width], tile, picture_height)
    return mosaic


def _tile_heights(tile_width: int) -> tuple[int, int]:
    """Of a tile's picture, and of the line below it."""
    picture_height = round(tile_width * 9 / 16)
    return picture_height, round(picture_height * _CAPTION_SHARE)


def _draw(area: Bgr, tile: Tile, picture_height: int) -> None:
    height, width = area.shape[:2]
    size_px = max(9, round((height - picture_height) * 0.5))
    baseline = height - (height - picture_height - size_px) // 2 - 1
    write_text(area, tile.camera.name, (size_px // 2, baseline), size_px, _INK)
    if isinstance(tile.seen, CrowError):
        words = "no picture"
        for number, line in enumerate(textwrap.wrap(tile.seen.message, max(10, width // (size_px * 2 // 3)))[:8]):
            write_text(area, line, (size_px, size_px * 2 * (number + 1)), size_px, _TROUBLE)
    else:
        words = f"{datetime.fromtimestamp(tile.seen.capture_us / 1_000_000).astimezone():%Y-%m-%d %H:%M:%S}"
        _fit(area[:picture_height], tile.seen.bgr)
    across = text_width(words, size_px) + size_px // 2
    area[picture_height:, max(0, width - across - size_px) :] = _GROUND  # over a long name
    write_text(area, words, (max(0, width - across), baseline), size_px, _INK)


def _fit(area: Bgr, bgr: Bgr) -> None:
    """Puts the picture into the area, as large as it fits, in the middle."""
    height, width = area.shape[:2]
    scale = min(width / bgr.shape[1], height / bgr.shape[0])
    across, down = max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale))
    left, top = (width - across) // 2, (height - down) // 2
    area[top : top + down, left : left + across] = cv2.resize(bgr, (across, down), interpolation=cv2.INTER_AREA)
