"""The engine without weights: what it sees, and that it claims no more."""

import numpy as np
import pytest
from vision_parts import ZONES, Box, coded, look, request, shop_picture

from crow_receiver.vision.classic.engine import MAX_CAMERAS, ClassicEngine
from crow_receiver.vision.schema import Action, Activity, Movement, Role, Scene
from crow_shared.zones import Point, Zone, ZoneKind

LEFT: Box = (60, 120, 60, 180)
RIGHT: Box = (520, 120, 60, 180)


def watched(*frames: tuple[float, tuple[Box, ...]], zones: tuple[Zone, ...] = ZONES) -> list[Scene]:
    """What an engine says of these frames (second, people), after some seconds of an empty shop."""
    engine = ClassicEngine()
    for second in range(3):
        look(engine, request(shop_picture(), second - 3))
    return [look(engine, request(shop_picture(*people), second, zones=zones)) for second, people in frames]


def area(name: str, left: float, top: float, right: float, bottom: float) -> Zone:
    return Zone(name, ZoneKind.AREA, ((left, top), (right, top), (right, bottom), (left, bottom)))


def line(name: str, first: Point, second: Point) -> Zone:
    return Zone(name, ZoneKind.LINE, (first, second))


def moved(box: Box, right: int = 0, down: int = 0) -> Box:
    return box[0] + right, box[1] + down, box[2], box[3]


def test_the_first_frame_of_a_camera_says_that_there_is_nothing_to_compare_with() -> None:
    scene = look(ClassicEngine(), request(shop_picture(LEFT)))
    assert scene.people == []
    assert scene.confidence == 0
    assert "no reference yet" in scene.description


def test_an_empty_shop_has_nobody_in_it() -> None:
    (scene,) = watched((0, ()))
    assert scene.people == []
    assert scene.description.startswith("No moving region")


@pytest.mark.parametrize(
    ("step", "movement"),
    [
        ({"right": 60}, Movement.RIGHT),
        ({"right": -50}, Movement.LEFT),
        ({"down": 40}, Movement.TOWARDS),
        ({"down": -40}, Movement.AWAY),
        ({}, Movement.STILL),
    ],
)
def test_movement_is_told_from_where_a_region_was_a_second_ago(step: dict[str, int], movement: Movement) -> None:
    first, second = watched((0, (LEFT,)), (1, (moved(LEFT, **step),)))
    assert [person.movement for person in first.people] == [Movement.UNKNOWN]
    assert [person.movement for person in second.people] == [movement]


def test_two_people_are_told_apart_by_zone_and_the_description_says_so() -> None:
    _, scene = watched((0, (LEFT, RIGHT)), (1, (moved(LEFT, 60), RIGHT)))
    assert {(person.zone, person.movement) for person in scene.people} == {
        ("Snacks", Movement.RIGHT),
        ("Checkout", Movement.STILL),
    }
    assert scene.description.startswith("Two moving regions that may be people: one in ")
    assert "one in Snacks moving right" in scene.description
    assert "without a model" in scene.description


def test_it_never_claims_to_know_a_role_an_activity_a_queue_or_a_product() -> None:
    for scene in watched((0, (LEFT, RIGHT)), (1, (moved(LEFT, 60),)), (2, ())):
        assert {person.role for person in scene.people} <= {Role.UNKNOWN}
        assert {person.activity for person in scene.people} <= {Activity.UNKNOWN}
        assert scene.queue_length is None
        assert len(scene.interactions) == len(scene.people)
        for interaction in scene.interactions:
            assert (interaction.action, interaction.product, interaction.confidence) == (Action.UNKNOWN, None, 0)
        assert scene.confidence <= 0.3


def test_something_small_is_not_taken_for_a_person() -> None:
    (scene,) = watched((0, ((300, 200, 8, 10),)))
    assert scene.people == []


def test_a_light_that_is_switched_on_is_no_motion() -> None:
    engine = ClassicEngine()
    look(engine, request(shop_picture(), 0))
    scene = look(engine, request(shop_picture(shade=200), 1))
    assert scene.people == []


def test_a_change_of_exposure_does_not_hide_who_is_there() -> None:
    engine = ClassicEngine()
    look(engine, request(shop_picture(), 0))
    scene = look(engine, request(shop_picture(LEFT, shade=155), 1))
    assert [person.zone for person in scene.people] == ["Snacks"]


def test_after_a_gap_of_minutes_a_region_is_seen_but_its_movement_is_unknown() -> None:
    _, later = watched((0, (LEFT,)), (300, (moved(LEFT, 60),)))
    assert [person.movement for person in later.people] == [Movement.UNKNOWN]


def test_a_late_frame_is_described_without_disturbing_what_follows() -> None:
    _, late, last = watched((10, (LEFT,)), (9, (RIGHT,)), (11, (moved(LEFT, 60),)))
    assert [person.movement for person in late.people] == [Movement.UNKNOWN]
    assert [person.movement for person in last.people] == [Movement.RIGHT]


def test_a_clock_that_was_set_back_starts_the_reference_again() -> None:
    first, second = watched((-3600, ()), (-3599, (LEFT,)))
    assert "no reference yet" in first.description
    assert len(second.people) == 1


def test_what_was_hours_ago_is_no_reference() -> None:
    (still,) = watched((7199, (LEFT,)))
    (again,) = watched((7200, (LEFT,)))
    assert len(still.people) == 1
    assert "no reference yet" in again.description


def test_a_camera_that_changes_its_picture_size_starts_again() -> None:
    engine = ClassicEngine()
    look(engine, request(shop_picture(), 0))
    other = coded(np.full((480, 640, 3), 90, np.uint8))
    assert "no reference yet" in look(engine, request(other, 1)).description


def test_cameras_do_not_see_each_other_and_the_memory_of_them_is_bounded() -> None:
    engine = ClassicEngine()
    for number in range(MAX_CAMERAS + 1):
        scene = look(engine, request(shop_picture(LEFT), 0, camera=f"acme/shop/{number}"))
        assert "no reference yet" in scene.description
    assert len(engine._sceneries) == MAX_CAMERAS
    assert "no reference yet" in look(engine, request(shop_picture(), 1, camera="acme/shop/0")).description
    assert "no reference yet" not in look(engine, request(shop_picture(), 1, camera="acme/shop/99")).description


def test_eight_people_in_zones_with_long_names_still_fit_the_schema() -> None:
    engine = ClassicEngine()
    edges = [(number / 8, (number + 1) / 8) for number in range(8)]
    zones = [area(f"{number} {'x' * 58}", left, 0, right, 1) for number, (left, right) in enumerate(edges)]
    doors = [line(f"{number} {'y' * 57}", (0, number / 20), (1, number / 20)) for number in range(15, 20)]

    def ask(second: int, down: int) -> Scene:
        people = ((number * 80 + 20, 100 + down, 36, 120) for number in range(8))
        return look(engine, request(shop_picture(*people), second, zones=(*zones, *doors)))

    look(engine, request(shop_picture(), 0))
    scenes = [ask(second + 1, down) for second, down in enumerate((0, 60, 120, 60))]
    assert all(len(scene.people) == 8 for scene in scenes)
    assert "in other places" in scenes[0].description
    assert [len(scene.crossings or ()) for scene in scenes] == [0, 1, 3, 3]
    assert "others." in scenes[2].description


def test_a_camera_without_zones_has_a_left_a_centre_and_a_right() -> None:
    (scene,) = watched((0, (LEFT, RIGHT)), zones=())
    assert sorted(person.zone for person in scene.people) == ["left", "right"]


def test_who_stands_in_no_zone_is_elsewhere_and_of_two_zones_the_smaller_counts() -> None:
    shop, shelf = area("Shop", 0, 0, 0.6, 1), area("Shelf", 0.1, 0.7, 0.3, 0.9)  # where feet are, at row 300 of 360
    (scene,) = watched((0, (LEFT, (300, 120, 60, 180), RIGHT)), zones=(shop, shelf))
    assert sorted(person.zone for person in scene.people) == ["Shelf", "Shop", "elsewhere"]


def test_who_crosses_a_line_is_counted_once_and_with_the_way() -> None:
    door = line("Front Entrance", (0.25, 0.0), (0.25, 1.0))  # drawn downwards: its right is the left of the picture
    walk = ((0, (LEFT,)), (1, (moved(LEFT, 120),)), (2, (moved(LEFT, 240),)), (3, (moved(LEFT, 110),)), (4, (LEFT,)))
    scenes = watched(*walk, zones=(door,))
    told = [[(each.line, each.inwards, each.outwards) for each in scene.crossings or ()] for scene in scenes]
    assert told == [[], [("Front Entrance", 0, 1)], [], [], [("Front Entrance", 1, 0)]]
    assert "Crossed since the frame before: Front Entrance 1 outwards." in scenes[1].description
    assert "Crossed" not in scenes[2].description


def test_who_stands_on_a_line_and_sways_does_not_cross_it() -> None:
    edge = line("Edge", (0.0, 0.845), (1.0, 0.845))  # at the feet: they are seen at 0.839 and 0.85 by turns
    scenes = watched(*((second, (moved(LEFT, down=second % 2 * 4),)) for second in range(6)), zones=(edge,))
    assert [scene.crossings for scene in scenes] == [[]] * 6


def test_crossings_are_unknown_where_frames_are_far_apart_or_there_is_no_line() -> None:
    door = line("Door", (0.25, 0.0), (0.25, 1.0))
    (first, far) = watched((0, (LEFT,)), (10, (moved(LEFT, 150),)), zones=(door,))
    assert (first.crossings, far.crossings) == ([], None)
    (without,) = watched((0, (LEFT,)))
    assert without.crossings is None
