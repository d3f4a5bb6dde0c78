"""The empty shop as one camera sees it: floor, walls and furniture, painted as flat textures put into perspective."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_sim.shop.figure import Picture
from crow_sim.shop.view import Block, Surface, View

_Texture = NDArray[np.uint8]
_Corner = tuple[float, float, float]

_TEXELS_PER_METRE = 90
_LEAST_WIDTH_PX = 1280  # painted at least this wide and then scaled down, so that small pictures do not alias
_NEAR_M = 0.6
_WALL_HEIGHT_M = 3.0
_SEED = 20  # the shop is always the same one; what happens in it has seeds of its own

_PRODUCTS = np.array(
    [
        (40, 60, 190),
        (190, 120, 40),
        (60, 160, 210),
        (70, 140, 60),
        (150, 60, 120),
        (200, 200, 205),
        (50, 110, 200),
        (130, 150, 60),
    ],
    np.uint8,
)


@dataclass(frozen=True, slots=True)
class Background:
    """The empty shop, and for each piece of furniture the pixels that it covers (255) or not (0)."""

    picture: Picture
    masks: tuple[tuple[Block, NDArray[np.uint8]], ...]


@lru_cache(maxsize=8)  # painting takes as long as rendering a hundred pictures, and many cameras share a view
def paint_background(view: View, width: int, height: int) -> Background:
    """Paints the view at a size in pixels; what comes back is shared and read-only."""
    scale = max(1, -(-_LEAST_WIDTH_PX // width))
    painter = _Painter(view, width * scale, height * scale)
    painter.room()
    masks = [(block, painter.block(block)) for block in sorted(view.blocks, key=lambda block: -block.front_m)]
    size = (width, height)
    picture = cv2.resize(_lit(painter.canvas), size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    picture.setflags(write=False)
    return Background(
        picture,
        tuple(
            (block, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)) for block, mask in masks
        ),
    )


class _Painter:
    def __init__(self, view: View, width: int, height: int) -> None:
        self._view = view
        self._width = width
        self._height = height
        self._random = np.random.default_rng(_SEED)
        self.canvas = np.full((height, width, 3), (150, 158, 162), np.uint8)

    def room(self) -> None:
        """Floor and walls."""
        width, depth = self._view.room_width_m, self._view.room_depth_m
        near, top = _NEAR_M, _WALL_HEIGHT_M
        side = _wall(depth - near, self._random)
        self._put(
            _floor(width, depth - near, self._random), (0, depth, 0), (width, depth, 0), (width, near, 0), (0, near, 0)
        )
        self._put(side, (0, near, top), (0, depth, top), (0, depth, 0), (0, near, 0), gain=0.86)
        self._put(side, (width, depth, top), (width, near, top), (width, near, 0), (width, depth, 0), gain=0.8)
        self._put(_wall(width, self._random), (0, depth, top), (width, depth, top), (width, depth, 0), (0, depth, 0))

    def block(self, block: Block) -> NDArray[np.uint8]:
        """One piece of furniture; returns the mask of the pixels that it covers."""
        left, right, front, back, top = block.left_m, block.right_m, block.front_m, block.back_m, block.height_m
        self._contact_shadow(block)
        texture = _front(block, self._random)
        mask = np.zeros((self._height, self._width), np.uint8)
        sides = []
        if right < self._view.camera.x_m:
            sides.append(((right, front, top), (right, back, top), (right, back, 0.0), (right, front, 0.0)))
        if left > self._view.camera.x_m:
            sides.append(((left, back, top), (left, front, top), (left, front, 0.0), (left, back, 0.0)))
        for corners in sides:
            mask |= self._put(_plain(back - front, top, (96, 104, 110)), *corners, gain=0.75)
        lid = _plain(right - left, back - front, (176, 186, 192))
        mask |= self._put(lid, (left, back, top), (right, back, top), (right, front, top), (left, front, top))
        mask |= self._put(texture, (left, front, top), (right, front, top), (right, front, 0.0), (left, front, 0.0))
        return mask

    def _contact_shadow(self, block: Block) -> None:
        reach = 0.35
        corners = (
            (block.left_m - reach / 2, block.back_m, 0.0),
            (block.right_m + reach / 2, block.back_m, 0.0),
            (block.right_m + reach / 2, block.front_m - reach, 0.0),
            (block.left_m - reach / 2, block.front_m - reach, 0.0),
        )
        shade = np.ones((self._height, self._width), np.float32)
        cv2.fillConvexPoly(shade, np.array([self._pixel(corner) for corner in corners], np.int32), 0.62)
        shade = cv2.GaussianBlur(shade, (0, 0), self._width / 90).astype(np.float32)
        self.canvas[:] = (self.canvas * shade[..., None]).astype(np.uint8)

    def _put(self, texture: _Texture, *corners: _Corner, gain: float = 1.0) -> NDArray[np.uint8]:
        """Puts a texture on a flat quadrilateral (top left, top right, bottom right, bottom left); returns its mask."""
        rows, columns = texture.shape[:2]
        source = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32)
        target = np.array([self._pixel(corner) for corner in corners], np.float32)
        mask = np.zeros((self._height, self._width), np.uint8)
        cv2.fillConvexPoly(mask, np.round(target * 16).astype(np.int32), 255, cv2.LINE_8, 4)
        size = (self._width, self._height)
        warped = cv2.warpPerspective(
            np.clip(texture * gain, 0, 255).astype(np.uint8),
            cv2.getPerspectiveTransform(source, target),
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.copyTo(warped, mask, self.canvas)
        return mask

    def _pixel(self, corner: _Corner) -> tuple[float, float]:
        return self._view.camera.project(*corner, self._width, self._height)


def _texels(width_m: float, height_m: float) -> tuple[int, int]:
    return max(2, int(height_m * _TEXELS_PER_METRE)), max(2, int(width_m * _TEXELS_PER_METRE))


def _plain(width_m: float, height_m: float, colour: tuple[int, int, int]) -> _Texture:
    return np.full((*_texels(width_m, height_m), 3), colour, np.uint8)


def _floor(width_m: float, depth_m: float, random: np.random.Generator) -> _Texture:
    texture = _plain(width_m, depth_m, (150, 162, 170)).astype(np.int16)
    rows, columns = texture.shape[:2]
    tile = int(0.6 * _TEXELS_PER_METRE)
    for top in range(0, rows, tile):
        for left in range(0, columns, tile):
            texture[top : top + tile, left : left + tile] += random.integers(-7, 8)
    texture += _mottled(rows, columns, random)
    texture[::tile], texture[:, ::tile] = (112, 120, 126), (112, 120, 126)
    texture[1::tile], texture[:, 1::tile] = (128, 136, 142), (128, 136, 142)
    return np.clip(texture, 0, 255).astype(np.uint8)


def _wall(width_m: float, random: np.random.Generator) -> _Texture:
    texture = _plain(width_m, _WALL_HEIGHT_M, (186, 196, 200)).astype(np.int16)
    rows, columns = texture.shape[:2]
    texture += _mottled(rows, columns, random)
    texture[: int(0.35 * _TEXELS_PER_METRE)] = (120, 96, 70)  # the band under the ceiling
    texture[rows - 10 :] = (92, 96, 100)
    return np.clip(texture, 0, 255).astype(np.uint8)


def _mottled(rows: int, columns: int, random: np.random.Generator) -> NDArray[np.int16]:
    """Stains and wear: coarse noise, smoothly enlarged, and a little grain."""
    coarse = random.normal(0, 4, (rows // 40 + 2, columns // 40 + 2)).astype(np.float32)
    smooth = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return (smooth + random.normal(0, 2, (rows, columns)))[..., None].astype(np.int16)


def _front(block: Block, random: np.random.Generator) -> _Texture:
    width_m = block.right_m - block.left_m
    if block.surface is Surface.COUNTER:
        return _counter(width_m, block.height_m)
    if block.surface is Surface.DOOR:
        return _door(width_m, block.height_m)
    return _shelf(width_m, block.height_m, random, fridge=block.surface is Surface.FRIDGE)


def _shelf(width_m: float, height_m: float, random: np.random.Generator, *, fridge: bool) -> _Texture:
    texture = _plain(width_m, height_m, (70, 64, 58) if fridge else (92, 100, 108))
    rows, columns = texture.shape[:2]
    shelves = max(2, round(height_m / 0.42))
    pitch = rows // shelves
    for top in range(0, rows - pitch + 1, pitch):
        left = 4
        while left < columns - 8:
            wide = int(random.integers(7, 11) if fridge else random.integers(10, 24))
            high = int(pitch * random.uniform(0.5, 0.78))
            colour = _PRODUCTS[random.integers(len(_PRODUCTS))].astype(np.int16) + random.integers(-15, 16)
            same = int(random.integers(2, 6))  # several of one product stand side by side
            for _ in range(same):
                if left + wide > columns - 6:
                    break
                face = texture[top + pitch - 6 - high : top + pitch - 6, left : left + wide]
                face[:] = np.clip(colour, 0, 255)
                face[:, -1] = np.clip(colour - 40, 0, 255)
                face[high // 3 : high // 2, 1:-1] = np.clip(colour + 70, 0, 255)
                left += wide + 1
            left += int(random.integers(0, 4))
        texture[top + pitch - 6 : top + pitch] = (205, 208, 210)
    if fridge:
        for left in range(0, columns, int(0.7 * _TEXELS_PER_METRE)):
            texture[:, left : left + 4] = (60, 60, 62)
        texture = np.asarray(cv2.add(texture, np.full_like(texture, (26, 20, 12))), np.uint8)  # lit from within
    return texture.astype(np.uint8)


def _counter(width_m: float, height_m: float) -> _Texture:
    texture = _plain(width_m, height_m, (58, 84, 118))
    rows, columns = texture.shape[:2]
    for left in range(0, columns, 30):
        texture[:, left : left + 2] = (44, 66, 96)
    texture[:8] = (206, 210, 214)
    texture[rows - 12 :] = (50, 52, 55)
    return texture


def _door(width_m: float, height_m: float) -> _Texture:
    texture = _plain(width_m, height_m, (214, 196, 176))
    rows, columns = texture.shape[:2]
    texture[int(rows * 0.55) :] = (176, 170, 160)
    for left in (0, columns // 2 - 3, columns - 6):
        texture[:, left : left + 6] = (70, 72, 76)
    texture[:6] = (70, 72, 76)
    return texture


def _lit(picture: Picture) -> Picture:
    """Brighter under two rows of lamps, darker towards the corners."""
    rows, columns = picture.shape[:2]
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = x / columns - 0.5, y / rows - 0.5
    pools = np.exp(-((x - 0.22) ** 2 + (y - 0.05) ** 2) / 0.05) + np.exp(-((x + 0.2) ** 2 + (y - 0.1) ** 2) / 0.06)
    light = 0.9 + 0.14 * pools - 0.35 * (x**2 + y**2)
    lit: Picture = np.clip(picture * light[..., None], 0, 255).astype(np.uint8)
    return lit
