"""Where somebody is among a camera's zones, and where the zones are, in words."""

from collections.abc import Iterable
from enum import StrEnum

import cv2
import numpy as np

from crow_shared.zones import ELSEWHERE_ZONE, Point, Polygon, Zone, ZoneKind

_SPANS_ALL = 0.8  # share of the picture's width or height
_COLUMNS = ("far left", "left", "middle", "right", "far right")
_ROWS = ("top", "upper part", "middle", "lower part", "bottom")


def _column(name: str, number: int) -> Zone:
    left, right = number / 3, (number + 1) / 3
    return Zone(name, ZoneKind.AREA, ((left, 0.0), (right, 0.0), (right, 1.0), (left, 1.0)))


THIRDS = tuple(_column(name, number) for number, name in enumerate(("left", "centre", "right")))


def areas(zones: Iterable[Zone]) -> tuple[Zone, ...]:
    """The areas among a camera's zones; for one without any, the left, the centre and the right of its picture."""
    return tuple(zone for zone in zones if zone.kind is ZoneKind.AREA) or THIRDS


def lines(zones: Iterable[Zone]) -> tuple[Zone, ...]:
    """The lines among a camera's zones."""
    return tuple(zone for zone in zones if zone.kind is ZoneKind.LINE)


def area_at(place: Point, of: Iterable[Zone]) -> str:
    """The name of the area that a place in the picture lies in, or on the edge of; the smallest if there are several.

    `elsewhere` where it lies in none.
    """
    holding = [zone for zone in of if cv2.pointPolygonTest(_contour(zone.points), place, measureDist=False) >= 0]
    smallest = min(holding, key=lambda zone: cv2.contourArea(_contour(zone.points)), default=None)
    return ELSEWHERE_ZONE if smallest is None else smallest.name


class Way(StrEnum):
    """How a line was crossed."""

    INWARDS = "inwards"  # from its left to its right, looking from its first point to its second
    OUTWARDS = "outwards"


def crossed(line: Zone, before: Point, now: Point) -> Way | None:
    """Which way somebody who went straight from one place to another crossed the line, if at all."""
    first, second = line.points
    was, is_now = _side(first, second, before), _side(first, second, now)
    if (was > 0) == (is_now > 0) or (_side(before, now, first) > 0) == (_side(before, now, second) > 0):
        return None
    return Way.INWARDS if is_now > 0 else Way.OUTWARDS


def in_words(area: Zone) -> str:
    """Where an area lies in the picture: "left, from top to bottom"."""
    columns, rows = ([point[axis] for point in area.points] for axis in (0, 1))
    across = _span(columns, "the whole width", _COLUMNS)
    down = _span(rows, "from top to bottom", _ROWS)
    return f"{across}, {down}"


def _span(values: list[float], all_of_it: str, parts: tuple[str, ...]) -> str:
    low, high = min(values), max(values)
    if high - low >= _SPANS_ALL:
        return all_of_it
    return parts[min(int((low + high) / 2 * len(parts)), len(parts) - 1)]


def _side(first: Point, second: Point, place: Point) -> float:
    """Above 0 on the right of the way from `first` to `second`, in a picture whose rows go down."""
    return (second[0] - first[0]) * (place[1] - first[1]) - (second[1] - first[1]) * (place[0] - first[0])


def _contour(polygon: Polygon) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.array(polygon, np.float32)
