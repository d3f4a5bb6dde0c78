"""One person as a handful of shapes, and where they are in the picture."""

from dataclasses import dataclass, replace
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_sim.shop.script import Colour, Moment
from crow_sim.shop.truth import Activity, Box, Movement, Role

Picture = NDArray[np.uint8]
Pixel = tuple[float, float]

_STRIDE_M = 0.75
_SUBPIXEL_BITS = 4
_PRODUCT_COLOUR: Colour = (40, 60, 220)
_FACING_AWAY = frozenset({Activity.BROWSING, Activity.PAYING})  # displays and tills are seen past the person
_SHOE_COLOUR: Colour = (30, 30, 32)
_APRON_COLOUR: Colour = (40, 90, 30)


@dataclass(frozen=True, slots=True)
class Limb:
    """A thick line with round ends."""

    start: Pixel
    end: Pixel
    thickness: float
    colour: Colour

    def draw(self, picture: Picture) -> None:
        """Draws it."""
        thickness = max(1, round(self.thickness))
        cv2.line(picture, _fixed(self.start), _fixed(self.end), self.colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def extent(self) -> list[Pixel]:
        """Points that its box has to hold."""
        half = self.thickness / 2 + 1
        return [(x + dx, y + dy) for x, y in (self.start, self.end) for dx, dy in ((-half, -half), (half, half))]


@dataclass(frozen=True, slots=True)
class Oval:
    """An upright ellipse, whole or its upper part."""

    centre: Pixel
    half_width: float
    half_height: float
    colour: Colour
    upper_only: bool = False

    def draw(self, picture: Picture) -> None:
        """Draws it."""
        axes = _fixed((self.half_width, self.half_height))
        start, end = (180, 360) if self.upper_only else (0, 360)
        cv2.ellipse(picture, _fixed(self.centre), axes, 0, start, end, self.colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def extent(self) -> list[Pixel]:
        """Points that its box has to hold."""
        (x, y), width, height = self.centre, self.half_width + 1, self.half_height + 1
        return [(x - width, y - height), (x + width, y + height)]


@dataclass(frozen=True, slots=True)
class Patch:
    """A convex polygon."""

    corners: tuple[Pixel, ...]
    colour: Colour

    def draw(self, picture: Picture) -> None:
        """Draws it."""
        points = np.array([_fixed(corner) for corner in self.corners], np.int32)
        cv2.fillConvexPoly(picture, points, self.colour, cv2.LINE_AA, _SUBPIXEL_BITS)

    def extent(self) -> list[Pixel]:
        """Points that its box has to hold."""
        return list(self.corners)


@dataclass(frozen=True, slots=True)
class Figure:
    """A person's shapes, far ones first."""

    shapes: tuple[Limb | Oval | Patch, ...]

    @property
    def box(self) -> Box:
        """The smallest rectangle around all shapes; it may reach out of the picture."""
        points = [point for shape in self.shapes for point in shape.extent()]
        columns, rows = [x for x, _ in points], [y for _, y in points]
        return Box(int(min(columns)), int(min(rows)), int(max(columns)) + 1, int(max(rows)) + 1)

    def draw(self, picture: Picture) -> None:
        """Draws all shapes."""
        for shape in self.shapes:
            shape.draw(picture)

    def painted(self, colour: Colour) -> "Figure":
        """The same figure in one colour."""
        return Figure(tuple(replace(shape, colour=colour) for shape in self.shapes))


def figure_of(moment: Moment, foot: Pixel, height: float) -> Figure:
    """The figure of a person whose feet are at `foot` and who is `height` pixels tall."""
    looks = _Drawing(moment, foot, height)
    return Figure((*looks.legs(), *looks.far_arm(), *looks.torso(), *looks.near_arm(), *looks.head()))


class _Drawing:
    """Turns a moment into shapes; body measures are shares of the person's height."""

    def __init__(self, moment: Moment, foot: Pixel, height: float) -> None:
        self._moment = moment
        self._look = moment.visit.look
        self._foot = foot
        self._height = height
        sideways = {Movement.LEFT: -1, Movement.RIGHT: 1}.get(moment.movement, 0)
        self._facing = sideways
        self._swing = sin(2 * pi * moment.walked_m / _STRIDE_M / 2) if moment.movement is not Movement.STILL else 0.0
        self._back_turned = moment.movement is Movement.AWAY or moment.activity in _FACING_AWAY
        self._slim = 0.8 if sideways else 1.0  # seen from the side

    def _at(self, across: float, up: float) -> Pixel:
        bounce = 0.008 * cos(4 * pi * self._moment.walked_m / _STRIDE_M / 2)
        lift = bounce if up > 0.3 else 0.0
        return self._foot[0] + across * self._height, self._foot[1] - (up + lift) * self._height

    def legs(self) -> list[Limb | Oval]:
        shapes: list[Limb | Oval] = []
        for side in (-1, 1):
            stride = side * self._swing
            across = stride * 0.15 if self._facing else side * 0.055
            lift = max(0.0, stride) * (0.03 if self._facing else 0.06)
            hip, ankle = self._at(side * 0.045 * self._slim, 0.47), self._at(across, 0.035 + lift)
            knee = self._at((across + side * 0.045) / 2 + self._facing * 0.025 * abs(stride), 0.26 + lift / 2)
            trousers = _shaded(self._look.trousers, 1.0 if side > 0 else 0.8)
            shapes += [
                Limb(hip, knee, 0.085 * self._height, trousers),
                Limb(knee, ankle, 0.07 * self._height, trousers),
                Oval(self._at(across + self._facing * 0.02, 0.02 + lift), *self._sizes(0.045, 0.02), _SHOE_COLOUR),
            ]
        return shapes

    def torso(self) -> list[Limb | Oval | Patch]:
        shirt, slim = self._look.shirt, self._slim
        hips, shoulders = 0.085 * slim, 0.115 * slim
        outline = tuple(
            self._at(across, up)
            for across, up in (
                (-hips, 0.44),
                (-shoulders, 0.77),
                (-0.06, 0.83),
                (0.06, 0.83),
                (shoulders, 0.77),
                (hips, 0.44),
            )
        )
        lit_side = tuple(
            self._at(across, up)
            for across, up in ((0.01, 0.44), (0.02, 0.82), (0.055, 0.825), (shoulders * 0.9, 0.77), (hips, 0.44))
        )
        shapes: list[Limb | Oval | Patch] = [Patch(outline, shirt), Patch(lit_side, _shaded(shirt, 1.12))]
        if self._moment.visit.role is Role.STAFF and not self._back_turned:
            apron = tuple(
                self._at(across, up) for across, up in ((-0.07, 0.38), (-0.06, 0.7), (0.06, 0.7), (0.07, 0.38))
            )
            shapes.append(Patch(apron, _APRON_COLOUR))
        return shapes

    def far_arm(self) -> list[Limb | Oval | Patch]:
        return self._arm(-1, 0.0, holds=False)

    def near_arm(self) -> list[Limb | Oval | Patch]:
        return self._arm(1, self._moment.reach, holds=self._moment.in_hand)

    def _arm(self, side: int, reach: float, *, holds: bool) -> list[Limb | Oval | Patch]:
        swing = -side * self._swing * (0.13 if self._facing else 0.03)
        shoulder = (side * 0.115 * self._slim, 0.775)
        down = (side * 0.14 * self._slim + swing, 0.45 if not holds else 0.52)
        up = (side * 0.24, 0.86)
        hand = tuple(low + (high - low) * reach for low, high in zip(down, up, strict=True))
        elbow = ((shoulder[0] + hand[0]) / 2 + side * 0.02, (shoulder[1] + hand[1]) / 2 - 0.01)
        sleeve = _shaded(self._look.shirt, 0.85)
        shapes: list[Limb | Oval | Patch] = [
            Limb(self._at(*shoulder), self._at(*elbow), 0.055 * self._height, sleeve),
            Limb(self._at(*elbow), self._at(hand[0], hand[1]), 0.042 * self._height, self._look.skin),
            Oval(self._at(hand[0], hand[1]), *self._sizes(0.026, 0.028), self._look.skin),
        ]
        if holds:
            x, y = hand[0] + side * 0.02, hand[1]
            corners = ((x - 0.035, y - 0.06), (x + 0.035, y - 0.06), (x + 0.035, y + 0.05), (x - 0.035, y + 0.05))
            shapes.append(Patch(tuple(self._at(*corner) for corner in corners), _PRODUCT_COLOUR))
        return shapes

    def head(self) -> list[Limb | Oval]:
        centre = self._at(self._facing * 0.015, 0.915)
        shapes: list[Limb | Oval] = [
            Limb(self._at(0, 0.82), self._at(0, 0.87), 0.06 * self._height, _shaded(self._look.skin, 0.85)),
            Oval(centre, *self._sizes(0.055, 0.075), self._look.hair if self._back_turned else self._look.skin),
        ]
        if not self._back_turned:
            crown = self._at(-self._facing * 0.012, 0.925)
            shapes.append(Oval(crown, *self._sizes(0.06, 0.075), self._look.hair, upper_only=True))
        return shapes

    def _sizes(self, half_width: float, half_height: float) -> tuple[float, float]:
        return half_width * self._height, half_height * self._height


def _shaded(colour: Colour, gain: float) -> Colour:
    blue, green, red = (min(255, int(value * gain)) for value in colour)
    return blue, green, red


def _fixed(point: Pixel) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates: sub-pixel motion is what makes a slow walk look (and measure) continuous."""
    return round(point[0] * (1 << _SUBPIXEL_BITS)), round(point[1] * (1 << _SUBPIXEL_BITS))
