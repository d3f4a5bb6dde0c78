"""The activity gate on the rendered shop, whose truth is known, and on drawn pictures."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from crow_daemon.gate.activity import ActivityGate
from crow_daemon.gate.gate import GateReason, Luma
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.view import AISLE, TILL, View

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US
NEVER_S = 80_000

STEADY = Light()
DRIFTING = Light(drift_share=0.1, drift_period_s=60)
SWITCHED = Light(steps=((110.0, 0.7), (115.0, 1.0)))


def luma(bgr: "np.ndarray") -> Luma:
    return cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (320, 180), interpolation=cv2.INTER_AREA)


def passed(gate: ActivityGate, pictures: Callable[[int], Luma], seconds: int) -> list[bool]:
    """Whether each picture, one a second, was let through; all that are let through are sent."""
    decisions = []
    for second in range(seconds):
        picture, time_us = pictures(second), START_US + second * SECOND_US
        decisions.append(gate.judge(picture, time_us) is None)
        if decisions[-1]:
            gate.sent(picture, time_us)
    return decisions


@pytest.mark.parametrize("light", [STEADY, DRIFTING, SWITCHED])
@pytest.mark.parametrize("view", [AISLE, TILL])
def test_people_are_sent_and_empty_stretches_are_not(view: View, light: Light) -> None:
    shop = Renderer(planned_scene(view, seed=5, seconds=120, light=light), 640, 360)
    sent = passed(ActivityGate(NEVER_S), lambda second: luma(shop.picture(second)), 120)
    busy = [bool(shop.truth(second).people) for second in range(120)]
    arrivals = [second for second in range(1, 118) if busy[second] and not busy[second - 1]]
    assert arrivals
    assert all(any(sent[second : second + 3]) for second in arrivals), "everybody who comes is sent within two seconds"
    assert sum(s for s, b in zip(sent, busy, strict=True) if b) >= 0.6 * sum(busy)
    leavings = {second for second in range(1, 120) if busy[second - 1] and not busy[second]}
    empty_sent = {second for second in range(1, 120) if sent[second] and not busy[second]}
    assert empty_sent <= leavings, "an empty shop is sent once, when the last one has left"


def test_without_the_gain_taken_out_drift_would_pass() -> None:
    """The control for the test above: the same drift, seen by a plain difference, is a change."""
    empty = Renderer(Scene(AISLE, light=DRIFTING), 640, 360)
    plain = np.abs(luma(empty.picture(0)).astype(int) - luma(empty.picture(15)).astype(int))
    assert (plain > 10).mean() > 0.1
    assert passed(ActivityGate(NEVER_S), lambda second: luma(empty.picture(second)), 60) == [True] + [False] * 59


def flat(level: int, square_at: int | None = None, noise: float = 0.0, seed: int = 0, contrast: int = 80) -> Luma:
    ramp = np.tile(np.linspace(0.7, 1.3, 320), (180, 1)) * level
    if square_at is not None:
        ramp[60:110, square_at : square_at + 25] -= contrast
    ramp += np.random.default_rng(seed).normal(0, noise, ramp.shape) if noise else 0
    return ramp.clip(0, 255).astype(np.uint8)


def test_the_first_sample_always_goes_out() -> None:
    assert ActivityGate(60).judge(flat(100), START_US) is None


@pytest.mark.parametrize("noise", [0.0, 3.0, 12.0])
def test_noise_alone_is_no_activity_and_a_body_in_it_is(noise: float) -> None:
    gate = ActivityGate(NEVER_S)
    gate.sent(flat(100, noise=noise), START_US)
    assert gate.judge(flat(100, noise=noise, seed=1), START_US + 1) is GateReason.NO_ACTIVITY
    assert gate.judge(flat(100, 50, noise=noise, seed=2), START_US + 2) is None


def test_somebody_who_stands_still_is_sent_once_and_again_when_gone() -> None:
    gate = ActivityGate(NEVER_S)
    scene = [flat(100), flat(100, 50), flat(100, 50), flat(100, 50), flat(100), flat(100)]
    assert passed(gate, lambda second: scene[second], 6) == [True, True, False, False, True, False]


def test_a_movement_too_slow_for_neighbours_adds_up() -> None:
    decisions = passed(ActivityGate(NEVER_S), lambda second: flat(100, 50 + second, contrast=20), 60)
    assert decisions[:3] == [True, False, False]
    assert sum(decisions) >= 5


def test_what_was_not_sent_is_not_the_reference() -> None:
    gate = ActivityGate(NEVER_S)
    gate.sent(flat(100), START_US)
    for second in range(1, 4):  # let through, but the sink refuses each
        assert gate.judge(flat(100, 50), START_US + second * SECOND_US) is None


def test_a_heartbeat_goes_out_from_a_still_scene() -> None:
    decisions = passed(ActivityGate(10), lambda _: flat(100), 31)
    assert [second for second, sent in enumerate(decisions) if sent] == [0, 10, 20, 30]


def test_a_clock_set_back_does_not_silence_the_gate() -> None:
    gate = ActivityGate(60)
    gate.sent(flat(100), START_US)
    assert gate.judge(flat(100), START_US - 3600 * SECOND_US) is None


def test_a_change_of_resolution_goes_out() -> None:
    gate = ActivityGate(NEVER_S)
    gate.sent(flat(100), START_US)
    assert gate.judge(flat(100)[:100], START_US + 1) is None


@pytest.mark.parametrize("level", [0, 1, 255])
def test_black_and_white_pictures_are_judged_too(level: int) -> None:
    gate = ActivityGate(NEVER_S)
    picture = np.full((180, 320), level, np.uint8)
    gate.sent(picture, START_US)
    assert gate.judge(picture, START_US + 1) is GateReason.NO_ACTIVITY
    assert gate.judge(flat(120, 30), START_US + 2) is None
