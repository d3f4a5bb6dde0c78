"""Named parts of a camera's picture, and the only code that turns them into the wire format and back."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crow.cctv.v1 import ingest_pb2
from crow_shared.errors import CrowError, Kind

MAX_ZONES = 32
MAX_POINTS = 64
MAX_ZONE_NAME_CHARACTERS = 60
UNKNOWN_ZONE, ELSEWHERE_ZONE = "unknown", "elsewhere"  # what is said in place of a name: nobody knows; in none of them
_RESERVED_NAMES = frozenset({UNKNOWN_ZONE, ELSEWHERE_ZONE})

Point = tuple[float, float]
"""Shares of the picture's width and height, each 0 to 1, from its upper left corner."""

Polygon = tuple[Point, ...]


class ZoneKind(StrEnum):
    """What a zone is for."""

    AREA = "area"  # who is in it
    LINE = "line"  # who crosses it


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the picture with a name in people's words. Raises CrowError(INVALID) for what is no such part."""

    name: str
    kind: ZoneKind
    points: Polygon

    def __post_init__(self) -> None:
        """Checks name and points."""
        if not 1 <= len(self.name) <= MAX_ZONE_NAME_CHARACTERS or not self.name.isprintable():
            raise _invalid(f"a zone's name has 1 to {MAX_ZONE_NAME_CHARACTERS} printable characters")
        if self.name.casefold() in _RESERVED_NAMES:
            raise _invalid(f"{self.name!r} is what is said of somebody whose zone has no name: give it another")
        if self.kind is ZoneKind.LINE:
            _check_points(self.points)
            if len(self.points) != 2:
                raise _invalid("a line has two points")
        else:
            checked_polygon(self.points)


def checked_polygon(points: Iterable[Sequence[float]]) -> Polygon:
    """The points as a polygon.

    Raises CrowError(INVALID) for fewer than three, too many, one outside the picture, or a line that crosses itself.
    """
    polygon = tuple((float(x), float(y)) for x, y in points)
    _check_points(polygon)
    if not 3 <= len(polygon) <= MAX_POINTS:
        raise _invalid(f"an area has 3 to {MAX_POINTS} points")
    if _crosses_itself(polygon):
        raise _invalid("an area's outline crosses itself: what is within it is not clear; give the points in order")
    return polygon


def checked_zones(zones: Iterable[Zone]) -> tuple[Zone, ...]:
    """The zones of one camera. Raises CrowError(INVALID) for too many, or two of one name."""
    found = tuple(zones)
    if len(found) > MAX_ZONES:
        raise _invalid(f"a camera has at most {MAX_ZONES} zones")
    if len({zone.name.casefold() for zone in found}) < len(found):
        raise _invalid("two zones of a camera have the same name")
    return found


def zones_to_text(zones: Iterable[Zone]) -> str:
    """Zones as JSON, for a database: objects of name, kind and points."""
    return json.dumps([{"name": zone.name, "kind": zone.kind, "points": zone.points} for zone in zones])


def zones_from_text(text: str) -> tuple[Zone, ...]:
    """What `zones_to_text` wrote. Raises CrowError(CORRUPT) for anything else."""
    try:
        return checked_zones(
            Zone(zone["name"], ZoneKind(zone["kind"]), tuple((x, y) for x, y in zone["points"]))
            for zone in json.loads(text)
        )
    except (ValueError, TypeError, KeyError, CrowError):
        raise CrowError(Kind.CORRUPT, "zones_damaged", "the zones of a camera are stored damaged") from None


_KINDS = {ZoneKind.AREA: ingest_pb2.ZONE_KIND_AREA, ZoneKind.LINE: ingest_pb2.ZONE_KIND_LINE}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}


def zone_to_wire(zone: Zone) -> ingest_pb2.Zone:
    """The protobuf message of a zone."""
    points = [ingest_pb2.Point(x=x, y=y) for x, y in zone.points]
    return ingest_pb2.Zone(name=zone.name, kind=_KINDS[zone.kind], points=points)


def zone_from_wire(message: ingest_pb2.Zone) -> Zone:
    """The zone of a protobuf message. Raises CrowError(INVALID), and CrowError(UNSUPPORTED) for an unknown kind."""
    kind = _KIND_OF.get(message.kind)
    if kind is None:
        raise CrowError(Kind.UNSUPPORTED, "zone_unsupported", f"a zone is of a kind ({message.kind}) not known here")
    return Zone(message.name, kind, tuple((point.x, point.y) for point in message.points))


def _crosses_itself(polygon: Polygon) -> bool:
    """Whether two sides that are no neighbours cross; sides that only touch do not."""
    sides = list(zip(polygon, (*polygon[1:], polygon[0]), strict=True))
    return any(
        _turn(*one, other[0]) * _turn(*one, other[1]) < 0 and _turn(*other, one[0]) * _turn(*other, one[1]) < 0
        for index, one in enumerate(sides)
        for other in sides[index + 2 :]
    )


def _turn(start: Point, end: Point, point: Point) -> float:
    """Positive on one side of the line from start to end, negative on the other."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _check_points(points: Polygon) -> None:
    if not all(math.isfinite(value) and 0 <= value <= 1 for point in points for value in point):
        raise _invalid("a point lies outside the picture: both its numbers are shares, from 0 to 1")


def _invalid(message: str) -> CrowError:
    return CrowError(Kind.INVALID, "bad_zone", message)
