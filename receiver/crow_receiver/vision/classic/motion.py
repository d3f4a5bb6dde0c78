"""Regions of a fixed camera's picture that differ from what it usually shows.

Invariants
1. A `Scenery` belongs to one camera; its memory is bounded by the size of the reduced picture.
2. The reference is learned by time, not by count of frames: a gap of minutes counts as minutes.
3. A frame that is not later than the last one changes nothing, unless it is so much older that the camera's clock
   must have been set back: then the reference starts again. So it does after hours, in which a shop changes.
4. When most of the picture differs (light switched, camera turned), that is no motion: the reference starts again.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.schema import MAX_PEOPLE, Movement
from crow_shared.zones import Point

REDUCED_WIDTH = 320
LEARN_SCENERY_S = 10.0  # time constant where nothing differs
LEARN_REGION_S = 120.0  # and where something does, so that who waits is seen for a while
DIFFERENCE = 28  # of 255, in the colour that differs most
MOST_DIFFERING = 0.6  # share of the picture
CLOCK_SET_BACK_US = 60_000_000
REFERENCE_AGE_MOST_US = 7_200_000_000  # twice the longest sample interval
MATCH_WITHIN_US = 3_000_000  # regions further apart in time cannot be told to be the same
MATCH_DISTANCE = 0.35  # share of the picture's width, per second and at most in all
MOVED_SIDEWAYS = 0.025  # share of the picture's width
MOVED_DEEPER = 0.03  # share of the picture's height, at the feet
LEAST_HEIGHT, LEAST_AREA = 0.1, 0.004  # shares of the picture: smaller is no person
LEAST_HEIGHT_TO_WIDTH = 0.7


@dataclass(frozen=True, slots=True)
class Region:
    """Where something differs: the box's left, top, right and bottom as shares of the picture, and its movement.

    `before` is where its foot was in the frame before, None where that is not known.
    """

    left: float
    top: float
    right: float
    bottom: float
    movement: Movement
    before: Point | None = None

    @property
    def foot(self) -> Point:
        """Where it stands: the middle of its lower edge."""
        return ((self.left + self.right) / 2, self.bottom)


@dataclass(frozen=True, slots=True)
class Look:
    """What one frame shows.

    `compared` is False when there was nothing to compare it with, `followed` when its regions could not be told from
    those of the frame before because that is too long ago.
    """

    compared: bool
    followed: bool
    regions: tuple[Region, ...]


class Scenery:
    """What one camera usually shows, and where its last frame differed."""

    def __init__(self) -> None:
        self._reference: NDArray[np.float32] | None = None
        self._capture_us = 0
        self._regions: tuple[Region, ...] = ()

    def look(self, picture: Pixels, capture_us: int) -> Look:
        """Compares a frame with the reference, then learns from it."""
        reduced = _reduced(picture)
        reference = self._reference
        elapsed_us = capture_us - self._capture_us
        comparable = -CLOCK_SET_BACK_US <= elapsed_us <= REFERENCE_AGE_MOST_US
        if reference is None or not comparable or reference.shape != reduced.shape:
            return self._start_again(reduced, capture_us)
        differs = _difference(reduced, reference)
        if np.count_nonzero(differs) > MOST_DIFFERING * differs.size:
            return self._start_again(reduced, capture_us)
        found = _boxes(differs)
        if elapsed_us <= 0:
            return Look(compared=True, followed=False, regions=found)
        regions = _matched(found, self._regions, elapsed_us)
        _learn(reference, reduced, differs, elapsed_us)
        self._capture_us, self._regions = capture_us, regions
        return Look(compared=True, followed=elapsed_us <= MATCH_WITHIN_US, regions=regions)

    def _start_again(self, reduced: NDArray[np.float32], capture_us: int) -> Look:
        self._reference, self._capture_us, self._regions = reduced, capture_us, ()
        return Look(compared=False, followed=False, regions=())


def _reduced(picture: Pixels) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    size = (REDUCED_WIDTH, max(1, round(height * REDUCED_WIDTH / width)))
    small = cv2.GaussianBlur(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), (5, 5), 0)
    return small.astype(np.float32)


def _difference(reduced: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.uint8]:
    """255 where the frame differs from the reference, cleaned of specks and with a person's parts joined."""
    change = reduced - reference
    change -= np.median(change, axis=(0, 1))  # what the camera's exposure did to the whole picture
    differs = np.where(np.abs(change).max(axis=2) > DIFFERENCE, 255, 0).astype(np.uint8)
    differs = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((13, 7), np.uint8)).astype(np.uint8)


def _boxes(differs: NDArray[np.uint8]) -> tuple[Region, ...]:
    """The regions that are large and upright enough for a person, largest first."""
    height, width = differs.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(differs)
    regions = []
    for left, top, box_width, box_height, area in sorted(stats[1:].tolist(), key=lambda row: -row[-1]):
        upright = box_height >= LEAST_HEIGHT_TO_WIDTH * box_width
        if upright and box_height >= LEAST_HEIGHT * height and area >= LEAST_AREA * differs.size:
            right, bottom = left + box_width, top + box_height
            regions.append(Region(left / width, top / height, right / width, bottom / height, Movement.UNKNOWN))
    return tuple(regions[:MAX_PEOPLE])


def _matched(found: tuple[Region, ...], before: tuple[Region, ...], elapsed_us: int) -> tuple[Region, ...]:
    """The regions with their movement since `before`, the nearest pairs first."""
    if elapsed_us > MATCH_WITHIN_US:
        return found
    reach = MATCH_DISTANCE * max(1.0, elapsed_us / 1_000_000)
    pairs = sorted(
        (math.dist(now.foot, then.foot), i, j) for i, now in enumerate(found) for j, then in enumerate(before)
    )
    regions, free = list(found), set(range(len(before)))
    for distance, i, j in pairs:
        if distance <= reach and regions[i].movement is Movement.UNKNOWN and j in free:
            free.discard(j)
            regions[i] = replace(found[i], movement=_movement(before[j], found[i]), before=before[j].foot)
    return tuple(regions)


def _movement(then: Region, now: Region) -> Movement:
    sideways, deeper = now.foot[0] - then.foot[0], now.bottom - then.bottom
    if abs(sideways) >= MOVED_SIDEWAYS and abs(sideways) >= abs(deeper):
        return Movement.RIGHT if sideways > 0 else Movement.LEFT
    if abs(deeper) >= MOVED_DEEPER:
        return Movement.TOWARDS if deeper > 0 else Movement.AWAY
    return Movement.STILL


def _learn(
    reference: NDArray[np.float32], reduced: NDArray[np.float32], differs: NDArray[np.uint8], elapsed_us: int
) -> None:
    elapsed_s = elapsed_us / 1_000_000
    weight = np.where(differs > 0, -math.expm1(-elapsed_s / LEARN_REGION_S), -math.expm1(-elapsed_s / LEARN_SCENERY_S))
    reference += (reduced - reference) * weight[..., np.newaxis].astype(np.float32)
