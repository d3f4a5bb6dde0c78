"""Promise: the truth about a picture is what the picture shows, and a seed decides both."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crow_receiver.vision import schema
from crow_sim.shop import truth
from crow_sim.shop.lens import Rain
from crow_sim.shop.plan import crossing_scene, planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.script import Look, Stay, Visit, Walk
from crow_sim.shop.truth import Activity, Box, Movement, Role
from crow_sim.shop.view import AISLE, TILL, View

WIDTH, HEIGHT = 320, 240
LOOK = Look((60, 60, 170), (100, 64, 44), (24, 28, 36), (120, 156, 206))
BOTH_VIEWS = pytest.mark.parametrize("view", [AISLE, TILL], ids=lambda view: view.name)


def without_noise(scene: Scene) -> Renderer:
    return Renderer(Scene(scene.view, scene.visits, scene.light, noise_sigma=0.0, seed=scene.seed), WIDTH, HEIGHT)


def changed(renderer: Renderer, time_s: float) -> NDArray[np.bool_]:
    """The pixels in which a picture differs from the empty shop."""
    mask: NDArray[np.bool_] = (cv2.absdiff(renderer.picture(time_s), renderer.empty()) > 0).any(axis=2)
    return mask


def one_person(view: View, *steps: Walk | Stay, start: tuple[float, float], role: Role = Role.CUSTOMER) -> Scene:
    return Scene(view, (Visit("p", role, LOOK, 0.0, start, steps),), noise_sigma=0.0)


def shadowed(box: Box) -> Box:
    """The box and the floor beside the feet, where the shadow falls."""
    width = box.right - box.left
    return Box(box.left - width, box.top, box.right + width, box.bottom + width)


@pytest.mark.parametrize(
    ("role", "place"),
    [(Role.CUSTOMER, (3.0, 4.5)), (Role.STAFF, (5.0, 3.5)), (Role.STAFF, (6.5, 4.8)), (Role.CUSTOMER, (3.6, 6.4))],
)
def test_a_persons_box_is_where_the_picture_differs_from_the_empty_shop(role: Role, place: tuple[float, float]) -> None:
    renderer = without_noise(one_person(AISLE, Stay(5), start=place, role=role))
    box = renderer.truth(1.0).people[0].box
    # Beside the feet the shadow, too, makes a difference: there the box cannot be measured.
    body = changed(renderer, 1.0)[: box.bottom - (box.bottom - box.top) // 3]
    rows, columns = np.nonzero(body)
    assert abs(int(rows.min()) - box.top) <= 2
    assert abs(int(columns.min()) - box.left) <= 3
    assert abs(int(columns.max()) + 1 - box.right) <= 3
    assert body[box.top :, box.left : box.right].mean() > 0.4


def test_nothing_but_shadows_differs_outside_the_boxes() -> None:
    renderer = without_noise(planned_scene(AISLE, 3, 30))
    seen = 0
    for time_s in np.arange(0.0, 30.0, 0.7):
        mask = changed(renderer, time_s)
        for person in renderer.truth(time_s).people:
            box = shadowed(person.box).clipped(WIDTH, HEIGHT)
            mask[box.top : box.bottom, box.left : box.right] = False
            seen += 1
        assert not mask.any(), f"at {time_s} s"
    assert seen > 20


@BOTH_VIEWS
def test_the_last_third_of_a_minute_is_empty_in_truth_and_picture(view: View) -> None:
    renderer = without_noise(planned_scene(view, 2, 60))
    for time_s in (42.0, 45.0, 51.3, 59.9):
        assert renderer.truth(time_s).people == ()
        assert renderer.truth(time_s).interactions == ()
        assert np.array_equal(renderer.picture(time_s), renderer.empty())


@BOTH_VIEWS
def test_whoever_is_in_the_truth_is_in_the_picture(view: View) -> None:
    renderer = without_noise(planned_scene(view, 5, 60))
    peopled = [time_s for time_s in np.arange(0.0, 60.0, 0.9) if renderer.truth(time_s).people]
    assert len(peopled) > 20
    for time_s in peopled:
        assert changed(renderer, time_s).any(), f"at {time_s} s"


def test_furniture_hides_who_stands_behind_it() -> None:
    shelf = AISLE.blocks[3]
    behind, before = ((shelf.left_m + shelf.right_m) / 2, shelf.back_m + 0.3), (5.0, shelf.front_m - 0.4)
    hidden = without_noise(one_person(AISLE, Stay(2), start=behind))
    open_ = without_noise(one_person(AISLE, Stay(2), start=before))

    def legs_seen(renderer: Renderer) -> float:
        box = renderer.truth(1.0).people[0].box
        middle = (box.left + box.right) // 2
        lowest = (box.bottom - box.top) // 4
        return float(changed(renderer, 1.0)[box.bottom - lowest : box.bottom, middle - 2 : middle + 2].mean())

    assert legs_seen(hidden) < 0.1
    assert legs_seen(open_) > 0.5


@pytest.mark.parametrize(
    ("to", "movement"),
    [
        ((6.5, 4.5), Movement.RIGHT),
        ((3.5, 4.5), Movement.LEFT),
        ((5.0, 3.0), Movement.TOWARDS),
        ((5.0, 6.0), Movement.AWAY),
    ],
)
def test_who_walks_moves_in_the_picture_as_the_truth_says(to: tuple[float, float], movement: Movement) -> None:
    renderer = without_noise(one_person(AISLE, Walk(to), Stay(1), start=(5.0, 4.5)))
    early, late = renderer.truth(0.1).people[0], renderer.truth(1.1).people[0]
    assert early.movement is late.movement is movement
    right = (late.box.left + late.box.right - early.box.left - early.box.right) / 2
    down = late.box.bottom - early.box.bottom
    moved = {Movement.RIGHT: right, Movement.LEFT: -right, Movement.TOWARDS: down, Movement.AWAY: -down}
    assert moved[movement] > 8
    assert max(moved, key=lambda direction: moved[direction]) is movement
    assert renderer.truth(2.0).people[0].movement is Movement.STILL


def test_a_person_is_in_the_zone_of_the_feet() -> None:
    renderer = without_noise(one_person(AISLE, Walk((8.0, 4.0)), start=(2.0, 4.0)))
    columns = {}
    for time_s in np.arange(0.2, 4.9, 0.2):
        person = renderer.truth(time_s).people[0]
        columns.setdefault(person.zone, []).append((person.box.left + person.box.right) / 2 / WIDTH)
    assert list(columns) == list(AISLE.zones)
    for number, zone in enumerate(AISLE.zones):
        assert all(number / 3 - 0.02 <= column <= (number + 1) / 3 + 0.02 for column in columns[zone])


def test_the_same_seed_gives_the_same_pictures_and_truth_in_any_order() -> None:
    forwards = Renderer(planned_scene(TILL, 7, 40), WIDTH, HEIGHT)
    backwards = Renderer(planned_scene(TILL, 7, 40), WIDTH, HEIGHT)
    times_s = [0.0, 5.5, 11.0, 20.0]
    pictures = [forwards.picture(time_s) for time_s in times_s]
    again = [backwards.picture(time_s) for time_s in reversed(times_s)]
    assert all(np.array_equal(one, other) for one, other in zip(pictures, reversed(again), strict=True))
    assert [forwards.truth(time_s) for time_s in times_s] == [backwards.truth(time_s) for time_s in times_s]


@BOTH_VIEWS
def test_another_seed_gives_other_customers_and_other_noise_in_the_same_shop(view: View) -> None:
    one, other = (Renderer(planned_scene(view, seed, 40), WIDTH, HEIGHT) for seed in (1, 2))
    times_s = np.arange(0.0, 28.0, 1.0)
    assert [one.truth(time_s) for time_s in times_s] != [other.truth(time_s) for time_s in times_s]
    assert not np.array_equal(one.picture(39.0), other.picture(39.0))
    assert np.array_equal(one.empty(), other.empty())


def test_the_sensors_noise_is_as_strong_as_asked_and_changes_between_pictures() -> None:
    renderer = Renderer(Scene(AISLE, noise_sigma=3.0), WIDTH, HEIGHT)
    noise = renderer.picture(0.0).astype(int) - renderer.empty()
    assert noise.std() == pytest.approx(3.0, rel=0.1)
    assert abs(noise.mean()) < 0.2
    assert not np.array_equal(renderer.picture(0.0), renderer.picture(0.1))


def test_light_switched_off_darkens_the_whole_picture_from_that_moment() -> None:
    renderer = without_noise(Scene(AISLE, light=Light(steps=((2.0, 0.5),))))
    assert np.array_equal(renderer.picture(1.99), renderer.empty())
    assert renderer.picture(2.0).mean() == pytest.approx(renderer.empty().mean() * 0.5, rel=0.01)


def test_daylight_drifts_around_full_light() -> None:
    light = Light(drift_share=0.1, drift_period_s=120)
    assert [light.gain(time_s) for time_s in (0.0, 30.0, 90.0)] == pytest.approx([1.0, 1.1, 0.9])


def test_the_crossing_customer_is_in_every_picture_of_the_six_seconds() -> None:
    renderer = without_noise(crossing_scene())
    for time_s in np.arange(0.0, 6.0, 0.1):
        (person,) = renderer.truth(time_s).people
        assert person.box.area > 200
        assert person.activity in {Activity.ENTERING, Activity.WALKING, Activity.BROWSING}


@pytest.mark.parametrize("word", ["Role", "Activity", "Movement", "Action"])
def test_the_truth_uses_the_words_of_the_analysis(word: str) -> None:
    assert {str(value) for value in getattr(truth, word)} <= {str(value) for value in getattr(schema, word)}


def test_rain_changes_the_picture_in_drops_and_the_same_ones_for_a_seed() -> None:
    dry = Renderer(Scene(AISLE, noise_sigma=0.0), WIDTH, HEIGHT).picture(30)
    wet, again = (
        Renderer(Scene(AISLE, noise_sigma=0.0, rain=Rain(30.0), seed=5), WIDTH, HEIGHT).picture(30) for _ in range(2)
    )
    assert np.array_equal(wet, again)
    share = (cv2.absdiff(wet, dry) > 4).any(axis=2).mean()
    assert 0.001 < share < 0.2


def test_a_light_that_reaches_half_of_the_picture_leaves_the_other_half_alone() -> None:
    even = Renderer(Scene(AISLE, noise_sigma=0.0), WIDTH, HEIGHT).picture(0)
    lit = Renderer(Scene(AISLE, noise_sigma=0.0, light=Light(steps=((0.0, 0.5),), reach=0.5)), WIDTH, HEIGHT).picture(0)
    assert np.array_equal(lit[:, int(WIDTH * 0.6) :], even[:, int(WIDTH * 0.6) :])
    assert np.abs(lit[:, : int(WIDTH * 0.4)] - even[:, : int(WIDTH * 0.4)] * 0.5).max() <= 1
