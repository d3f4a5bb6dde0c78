"""Promise: what the script says that people do is what the truth says that they do, moment by moment."""

import functools

import numpy as np
import pytest

from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Scene
from crow_sim.shop.script import Handle, Look, Stay, Step, Timeline, Visit, Walk
from crow_sim.shop.truth import Action, Activity, FrameTruth, Role
from crow_sim.shop.view import AISLE, TILL, View

LOOK = Look((60, 60, 170), (100, 64, 44), (24, 28, 36), (120, 156, 206))
BOTH_VIEWS = pytest.mark.parametrize("view", [AISLE, TILL], ids=lambda view: view.name)


def visit(*steps: Step, person: str = "p", start_s: float = 0.0, start: tuple[float, float] = (5.0, 4.5)) -> Visit:
    return Visit(person, Role.CUSTOMER, LOOK, start_s, start, steps)


def truths(scene: Scene, times_s: list[float]) -> list[FrameTruth]:
    renderer = Renderer(scene, 160, 120)
    return [renderer.truth(time_s) for time_s in times_s]


@functools.cache
def told(view: View, seed: int) -> list[FrameTruth]:
    """A planned minute, told four times a second."""
    return truths(planned_scene(view, seed, 60.0), [number / 4 for number in range(240)])


def test_the_queue_is_as_long_as_the_script_makes_it() -> None:
    queueing = Stay(4.0, Activity.QUEUEING)
    first = visit(queueing, Stay(2.0, Activity.PAYING), person="first", start_s=1.0, start=TILL.queue[0])
    second = visit(queueing, person="second", start_s=3.0, start=TILL.queue[1])
    scene = Scene(TILL, (first, second))
    lengths = [frame.queue_length for frame in truths(scene, [0.0, 2.0, 4.0, 5.5, 6.9, 8.0])]
    assert lengths == [0, 1, 2, 1, 1, 0]


def test_a_product_is_browsed_picked_up_carried_and_put_back_as_scripted() -> None:
    steps = (
        Stay(2.0, Activity.BROWSING),
        Handle(Action.PICKUP, "nuts"),
        Stay(2.0),
        Walk((6.2, 4.5)),  # 1.2 m: a second
        Handle(Action.PUTBACK, "nuts"),
        Stay(2.0),
    )
    frames = truths(Scene(AISLE, (visit(*steps),)), [1.0, 3.0, 5.0, 6.5, 8.0, 10.0])
    did = [[(one.action, one.product) for one in frame.interactions] for frame in frames]
    assert did == [
        [(Action.BROWSE, None)],
        [(Action.PICKUP, "nuts")],
        [(Action.CARRY, "nuts")],
        [(Action.CARRY, "nuts")],
        [(Action.PUTBACK, "nuts")],
        [],
    ]


def test_a_product_that_is_only_touched_is_never_carried() -> None:
    scene = Scene(AISLE, (visit(Handle(Action.TOUCH, "nuts"), Stay(2.0)),))
    touching, after = truths(scene, [1.0, 3.0])
    assert [one.action for one in touching.interactions] == [Action.TOUCH]
    assert after.interactions == ()


def test_somebody_is_in_the_shop_from_the_first_step_to_the_end_of_the_last() -> None:
    timeline = Timeline(visit(Walk((5.0, 6.9), speed_mps=1.2), Stay(3.0), start_s=10.0))
    assert (timeline.start_s, timeline.end_s) == (10.0, pytest.approx(15.0))
    assert timeline.at(9.99) is None
    walking = timeline.at(11.0)
    assert walking is not None
    assert walking.place == pytest.approx((5.0, 5.7))
    assert timeline.at(14.99) is not None
    assert timeline.at(15.01) is None


def test_the_hand_reaches_out_and_comes_back_within_one_step() -> None:
    timeline = Timeline(visit(Handle(Action.PICKUP, "nuts", seconds=2.0)))
    moments = [timeline.at(time_s) for time_s in (0.0, 0.25, 1.0, 1.75)]
    assert [moment.reach for moment in moments if moment] == pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert [moment.in_hand for moment in moments if moment] == [False, False, False, True]


@BOTH_VIEWS
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_planned_scene_never_puts_back_what_was_not_picked_up(view: View, seed: int) -> None:
    taken: set[tuple[str, str | None]] = set()
    actions = [one for frame in told(view, seed) for one in frame.interactions]
    assert {Action.BROWSE, Action.PICKUP} <= {one.action for one in actions}
    for one in actions:
        if one.action is Action.PICKUP:
            taken.add((one.person, one.product))
        elif one.action in {Action.PUTBACK, Action.CARRY}:
            assert (one.person, one.product) in taken


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_the_till_people_pay_one_at_a_time_and_in_the_order_in_which_they_came(seed: int) -> None:
    paid: list[str] = []
    for frame in told(TILL, seed):
        paying = [person.person for person in frame.people if person.activity is Activity.PAYING]
        assert len(paying) <= 1
        paid += [person for person in paying if person not in paid]
    assert len(paid) >= 2
    assert paid == sorted(paid, key=lambda name: int(name.rpartition("-")[2]))


def test_the_planned_queue_grows_beyond_one_and_counts_who_queues() -> None:
    frames = [frame for seed in (1, 2, 3) for frame in told(TILL, seed)]
    assert max(frame.queue_length for frame in frames) >= 2
    for frame in frames:
        assert frame.queue_length == sum(person.activity is Activity.QUEUEING for person in frame.people)


def test_nobody_queues_where_somebody_else_stands() -> None:
    for seed in range(1, 7):
        timelines = [Timeline(one) for one in planned_scene(TILL, seed, 60.0).visits]
        for time_s in np.arange(0.0, 42.0, 0.5):
            moments = [moment for timeline in timelines if (moment := timeline.at(time_s)) is not None]
            standing = [
                moment.place
                for moment in moments
                if moment.activity in {Activity.QUEUEING, Activity.PAYING} and moment.walked_m == 0
            ]
            for number, place in enumerate(standing):
                for other in standing[:number]:
                    assert np.hypot(place[0] - other[0], place[1] - other[1]) > 0.3, f"seed {seed}, {time_s} s"


def test_staff_work_at_the_till_whenever_somebody_pays() -> None:
    frames = [frame for frame in told(TILL, 1) if any(person.activity is Activity.PAYING for person in frame.people)]
    assert frames
    for frame in frames:
        assert [person.activity for person in frame.people if person.role is Role.STAFF] == [Activity.WORKING]


@BOTH_VIEWS
@pytest.mark.parametrize("seconds", [10.0, 30.0, 150.0])
def test_a_scene_of_any_length_has_busy_and_empty_stretches(view: View, seconds: float) -> None:
    frames = truths(planned_scene(view, 4, seconds), [number / 2 for number in range(round(seconds * 2))])
    peopled = [bool(frame.people) for frame in frames]
    assert any(peopled)
    last_fifth = peopled[round(len(peopled) * 0.8) :] if seconds <= 60 else peopled[86:120]
    assert not any(last_fifth)
