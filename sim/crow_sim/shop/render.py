"""Renders a scene: for any time the picture and the truth about it.

The background is painted once. A picture costs a copy of it, the figures, and two additions for the sensor's noise.
"""

from dataclasses import replace

import cv2
import numpy as np

from crow_sim.shop.background import paint_background
from crow_sim.shop.figure import Figure, Picture, figure_of
from crow_sim.shop.lens import WetLens
from crow_sim.shop.scene import Scene
from crow_sim.shop.script import Colour, Moment, Timeline
from crow_sim.shop.sign import with_sign
from crow_sim.shop.truth import Activity, Box, FrameTruth, InteractionTruth, PersonTruth

_NOISE_PLANES = 6
_SHADOW_DEPTH = 0.42
_RAIN_LASTS_S = 3600.0
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)
_LIGHT_EDGE = 0.15  # of the picture's width, over which a light that reaches a part of it fades


class Renderer:
    """Pictures (height x width x 3, uint8, BGR) and truths of one scene at one size."""

    def __init__(self, scene: Scene, width: int = 1280, height: int = 720) -> None:
        self._scene = scene
        self._width = width
        self._height = height
        self._background = paint_background(scene.view, width, height)
        if scene.sign:
            self._background = replace(self._background, picture=with_sign(self._background.picture, scene.sign))
        self._timelines = [Timeline(visit) for visit in scene.visits]
        self._lens = WetLens(scene.rain, scene.seed, _RAIN_LASTS_S) if scene.rain.drops_per_minute else None
        random = np.random.default_rng(scene.seed)
        planes = [random.normal(0, scene.noise_sigma, (height, width, 1)).round() for _ in range(_NOISE_PLANES)]
        # Two unsigned planes each: saturating byte additions cost a tenth of signed ones.
        self._noise = [
            tuple(np.repeat(part.clip(0, 255).astype(np.uint8), 3, axis=2) for part in (plane, -plane))
            for plane in planes
        ]

    def picture(self, time_s: float) -> Picture:
        """The picture at a time."""
        canvas = self._background.picture.copy()
        self._draw_people(canvas, self._people(time_s))
        gain = self._scene.light.gain(time_s)
        if gain != 1.0:
            self._light(canvas, gain)
        if self._lens is not None:
            self._lens.wet(canvas, time_s)
        brighter, darker = self._noise[int(time_s * 1000) * 7919 // 64 % _NOISE_PLANES]
        cv2.add(canvas, brighter, canvas)
        cv2.subtract(canvas, darker, canvas)
        return canvas

    def _light(self, canvas: Picture, gain: float) -> None:
        reach = self._scene.light.reach
        if reach >= 1.0:
            cv2.convertScaleAbs(canvas, canvas, alpha=gain)
            return
        columns = np.arange(self._width, dtype=np.float32) / self._width
        share = ((reach - columns) / _LIGHT_EDGE + 0.5).clip(0, 1)
        canvas[:] = (canvas * (1 + (gain - 1) * share)[None, :, None]).clip(0, 255).astype(np.uint8)

    def empty(self) -> Picture:
        """The shop with nobody in it, in full light and without noise."""
        return self._background.picture.copy()

    def truth(self, time_s: float) -> FrameTruth:
        """What the picture at a time shows."""
        people: list[PersonTruth] = []
        interactions: list[InteractionTruth] = []
        for moment, figure, foot in self._people(time_s):
            zone = self._scene.view.zone_at(foot[0], self._width)
            visit = moment.visit
            box = figure.box.clipped(self._width, self._height)
            people.append(PersonTruth(visit.person, visit.role, zone, moment.activity, moment.movement, box))
            if moment.action is not None:
                interactions.append(InteractionTruth(visit.person, moment.action, moment.product, zone))
        queue_length = sum(person.activity is Activity.QUEUEING for person in people)
        return FrameTruth(round(time_s, 6), tuple(people), tuple(interactions), queue_length)

    def shown(self, time_s: float) -> dict[str, float]:
        """The share of each person of the truth that the picture shows: less at its edge and behind others."""
        people = self._people(time_s)
        shares: dict[str, float] = {}
        for moment, _, foot in people:
            crown = self._scene.view.camera.project(*moment.place, moment.visit.height_m, self._width, self._height)
            whole = _pixels_of(moment, foot[1] - crown[1])
            seen = cv2.absdiff(self._silhouettes(people, moment), self._silhouettes(people, None))
            shares[moment.visit.person] = min(1.0, int(np.count_nonzero(seen[..., 0] > 127)) / whole)
        return shares

    def _silhouettes(self, people: list[tuple[Moment, Figure, tuple[float, float]]], white: Moment | None) -> Picture:
        """Everybody as a black figure, and one of them as a white one."""
        canvas = np.zeros((self._height, self._width, 3), np.uint8)
        figures = [(one, figure.painted(_WHITE if one is white else _BLACK), foot) for one, figure, foot in people]
        self._draw_people(canvas, figures)
        return canvas

    def _people(self, time_s: float) -> list[tuple[Moment, Figure, tuple[float, float]]]:
        """Everybody of whom anything is within the picture, the farthest first."""
        camera, size = self._scene.view.camera, (self._width, self._height)
        found = []
        for timeline in self._timelines:
            moment = timeline.at(time_s)
            if moment is None:
                continue
            foot = camera.project(*moment.place, 0.0, *size)
            crown = camera.project(*moment.place, moment.visit.height_m, *size)
            figure = figure_of(moment, foot, foot[1] - crown[1])
            if figure.box.clipped(*size).area:
                found.append((moment, figure, foot))
        return sorted(found, key=lambda person: -person[0].place[1])

    def _draw_people(self, canvas: Picture, people: list[tuple[Moment, Figure, tuple[float, float]]]) -> None:
        for _, figure, foot in people:
            self._shade_floor(canvas, figure, foot)
        drawn: list[Box] = []
        for _, figure, _ in people:  # shadows, too, are hidden by furniture that stands in front
            drawn.append(_with_shadow(figure.box).clipped(self._width, self._height))
        waiting = list(zip(people, drawn, strict=True))
        for block, mask in self._background.masks:
            while waiting and waiting[0][0][0].place[1] > block.front_m:
                waiting.pop(0)[0][1].draw(canvas)
            for box in drawn:
                area = np.s_[box.top : box.bottom, box.left : box.right]
                cv2.copyTo(self._background.picture[area], mask[area], canvas[area])
        for (_, figure, _), _ in waiting:
            figure.draw(canvas)

    def _shade_floor(self, canvas: Picture, figure: Figure, foot: tuple[float, float]) -> None:
        box = _with_shadow(figure.box)
        half_width = (figure.box.right - figure.box.left) * 0.55
        shadow = Box(
            int(foot[0] - half_width), int(foot[1] - half_width * 0.4), int(foot[0] + half_width) + 1, box.bottom
        )
        seen = shadow.clipped(self._width, self._height)
        if not seen.area:
            return
        y, x = np.mgrid[seen.top : seen.bottom, seen.left : seen.right].astype(np.float32)
        distance = ((x - foot[0]) / half_width) ** 2 + ((y - foot[1]) / (half_width * 0.38)) ** 2
        shade = 1 - _SHADOW_DEPTH * (1 - distance).clip(0, 1)
        area = canvas[seen.top : seen.bottom, seen.left : seen.right]
        area[:] = (area * shade[..., None]).astype(np.uint8)


def _pixels_of(moment: Moment, height: float) -> int:
    """How many pixels somebody of that height covers when all of them is seen."""
    canvas = np.zeros((round(2 * height) + 2, round(2 * height) + 2, 3), np.uint8)
    figure_of(moment, (height, 1.5 * height), height).painted(_WHITE).draw(canvas)
    return max(1, int(np.count_nonzero(canvas[..., 0] > 127)))


def _with_shadow(box: Box) -> Box:
    half = (box.right - box.left) // 2
    return Box(box.left - half, box.top, box.right + half, box.bottom + half // 2)
