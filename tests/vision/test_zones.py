"""Which zone somebody is in, whether a line was crossed, and how a model is told where zones lie."""

from collections import Counter
from itertools import pairwise

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vision_parts import look, request

from crow_receiver.vision.classic.engine import ClassicEngine
from crow_receiver.vision.prompt import load_prompt
from crow_receiver.vision.zones import THIRDS, Way, area_at, areas, crossed, in_words, lines
from crow_shared.zones import Point, Zone, ZoneKind
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.view import VIEWS

shares = st.floats(0, 1, width=32)
points = st.tuples(shares, shares)


def area(name: str, *outline: Point) -> Zone:
    return Zone(name, ZoneKind.AREA, outline)


def box(name: str, left: float, top: float, right: float, bottom: float) -> Zone:
    return area(name, (left, top), (right, top), (right, bottom), (left, bottom))


def test_a_camera_without_areas_has_thirds_and_its_lines_are_none() -> None:
    door = Zone("Door", ZoneKind.LINE, ((0, 0.5), (1, 0.5)))
    shelf = box("Shelf", 0, 0, 0.5, 0.5)
    assert [each.name for each in areas(())] == ["left", "centre", "right"]
    assert areas((door,)) == THIRDS
    assert areas((door, shelf)) == (shelf,)
    assert lines((door, shelf)) == (door,)


@given(points)
def test_the_thirds_leave_no_place_out_edges_and_corners_included(place: Point) -> None:
    assert area_at(place, THIRDS) in {"left", "centre", "right"}


def test_the_smallest_area_that_holds_a_place_names_it() -> None:
    shop, aisle, shelf = box("Shop", 0, 0, 1, 1), box("Aisle", 0.2, 0.2, 0.8, 1), box("Shelf", 0.4, 0.4, 0.6, 0.6)
    for order in ((shop, aisle, shelf), (shelf, aisle, shop)):
        assert [area_at(place, order) for place in ((0.5, 0.5), (0.3, 0.9), (0.1, 0.1))] == ["Shelf", "Aisle", "Shop"]


def test_an_area_need_not_be_convex() -> None:
    corner = area("L", (0, 0), (1, 0), (1, 0.3), (0.3, 0.3), (0.3, 1), (0, 1))
    assert [area_at(place, (corner,)) for place in ((0.9, 0.1), (0.1, 0.9), (0.7, 0.7))] == ["L", "L", "elsewhere"]


def test_inwards_is_from_the_left_of_a_line_to_its_right() -> None:
    rightwards = Zone("Door", ZoneKind.LINE, ((0.2, 0.5), (0.8, 0.5)))
    leftwards = Zone("Door", ZoneKind.LINE, ((0.8, 0.5), (0.2, 0.5)))
    far, near = (0.5, 0.4), (0.55, 0.7)
    assert crossed(rightwards, far, near) is Way.INWARDS
    assert crossed(rightwards, near, far) is Way.OUTWARDS
    assert crossed(leftwards, far, near) is Way.OUTWARDS


def test_going_past_the_end_of_a_line_or_staying_on_one_side_crosses_nothing() -> None:
    door = Zone("Door", ZoneKind.LINE, ((0.2, 0.5), (0.8, 0.5)))
    assert crossed(door, (0.9, 0.4), (0.95, 0.7)) is None
    assert crossed(door, (0.3, 0.4), (0.7, 0.45)) is None
    assert crossed(door, (0.3, 0.6), (0.3, 0.6)) is None


@given(st.tuples(points, points), st.lists(points, min_size=2, max_size=12))
def test_whoever_walks_about_goes_in_and_out_by_turns(ends: tuple[Point, Point], way: list[Point]) -> None:
    """Along any way, with a line through the whole picture, nobody comes in twice without going out between."""
    door = Zone("Door", ZoneKind.LINE, ((0.0, ends[0][1]), (1.0, ends[1][1])))
    inside = [place for place in way if 0 < place[0] < 1]  # the very ends of the line are reached by no one
    ways = [found for before, now in pairwise(inside) if (found := crossed(door, before, now))]
    assert all(one is not other for one, other in pairwise(ways))


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        (THIRDS[0], "far left, from top to bottom"),
        (THIRDS[1], "middle, from top to bottom"),
        (box("Till", 0.5, 0.6, 0.9, 0.9), "right, lower part"),
        (box("Door", 0.1, 0, 1, 0.15), "the whole width, top"),
        (box("Shop", 0, 0, 1, 1), "the whole width, from top to bottom"),
    ],
)
def test_where_an_area_lies_is_told_in_words(zone: Zone, words: str) -> None:
    assert in_words(zone) == words


def test_the_question_names_each_area_with_its_place_and_no_line() -> None:
    zones = (
        box('Bar "1"', 0, 0.7, 0.3, 1),
        Zone("Door", ZoneKind.LINE, ((0, 0), (1, 1))),
        box("Shop", 0, 0, 1, 1),
    )
    question = load_prompt().question_for(request(b"", zones=zones))
    assert '"Bar \\"1\\"" (far left, bottom); "Shop" (the whole width, from top to bottom)' in question
    assert "Door" not in question


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_classic_puts_people_of_the_rendered_shop_into_the_zones_where_they_are(view: object) -> None:
    """A minute at one frame a second: of those it sees, where the truth has somebody in the same zone."""
    zones = tuple(Zone(name, ZoneKind.AREA, third.points) for name, third in zip(view.zones, THIRDS, strict=True))  # type: ignore[attr-defined]
    renderer, engine = Renderer(planned_scene(view, 2, 60.0), 640, 360), ClassicEngine()  # type: ignore[arg-type]
    seen, rightly = 0, 0
    for second in range(60):
        coded = cv2.imencode(".jpg", renderer.picture(59.5 if second < 3 else second))[1].tobytes()
        said = Counter(person.zone for person in look(engine, request(coded, second, zones=zones)).people)
        true = Counter(person.zone for person in renderer.truth(second).people)
        if second >= 3:  # before that it is shown the empty shop
            seen += said.total()
            rightly += (said & true).total()
    assert seen >= 50
    assert rightly >= 0.95 * seen
