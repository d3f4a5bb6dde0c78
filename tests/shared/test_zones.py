"""Zones travel as they are, and what is none is refused."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow.cctv.v1 import ingest_pb2
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import Zone, ZoneKind, checked_polygon, checked_zones, zone_from_wire, zone_to_wire

_reach = st.floats(0.125, 0.5, width=32)


def _around(reaches: list[float]) -> tuple[tuple[float, float], ...]:
    """Points around the middle, in order, so that no two sides cross; as the wire keeps them."""
    angles = [2 * math.pi * index / len(reaches) for index in range(len(reaches))]
    return tuple(
        (_as_on_the_wire(0.5 + reach * math.cos(angle)), _as_on_the_wire(0.5 + reach * math.sin(angle)))
        for reach, angle in zip(reaches, angles, strict=True)
    )


def _as_on_the_wire(share: float) -> float:
    return float(struct.unpack("f", struct.pack("f", min(max(share, 0.0), 1.0)))[0])


_points = st.lists(_reach, min_size=3, max_size=20).map(_around)
TRIANGLE = ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))


@given(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=60), _points)
def test_a_zone_comes_off_the_wire_as_it_went_on(name: str, points: tuple[tuple[float, float], ...]) -> None:
    zone = Zone(name, ZoneKind.AREA, points)
    assert zone_from_wire(zone_to_wire(zone)) == zone


@pytest.mark.parametrize(
    ("name", "kind", "points"),
    [
        ("", ZoneKind.AREA, TRIANGLE),
        ("x" * 61, ZoneKind.AREA, TRIANGLE),
        ("till\n", ZoneKind.AREA, TRIANGLE),
        ("till", ZoneKind.AREA, TRIANGLE[:2]),
        ("till", ZoneKind.AREA, ((0.0, 0.0), (1.1, 0.0), (0.5, 1.0))),
        ("till", ZoneKind.AREA, ((0.0, 0.0), (float("nan"), 0.0), (0.5, 1.0))),
        ("till", ZoneKind.AREA, TRIANGLE * 22),
        ("door", ZoneKind.LINE, TRIANGLE),
    ],
)
def test_what_is_no_zone_is_refused(name: str, kind: ZoneKind, points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(CrowError) as caught:
        Zone(name, kind, points)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad_zone")


def test_a_zone_of_an_unknown_kind_is_refused_off_the_wire() -> None:
    with pytest.raises(CrowError, match="kind"):
        zone_from_wire(ingest_pb2.Zone(name="till", kind=77))


def test_two_zones_of_one_name_are_refused_whatever_their_case() -> None:
    zones = [Zone("Till", ZoneKind.AREA, TRIANGLE), Zone("till", ZoneKind.AREA, TRIANGLE)]
    with pytest.raises(CrowError, match="same name"):
        checked_zones(zones)


def test_a_mask_of_two_points_is_refused() -> None:
    with pytest.raises(CrowError, match="3 to"):
        checked_polygon([(0, 0), (1, 1)])


def test_an_outline_that_crosses_itself_is_refused_since_its_middle_would_stay_open() -> None:
    pentagram = [(0.5, 0.0), (0.8, 1.0), (0.0, 0.4), (1.0, 0.4), (0.2, 1.0)]
    with pytest.raises(CrowError, match="crosses itself"):
        checked_polygon(pentagram)
    assert checked_polygon([(0, 0), (1, 0), (0.5, 0.25), (1, 1), (0, 1)]), "a dent is no crossing"
