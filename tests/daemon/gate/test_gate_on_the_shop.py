"""The gate on the rendered shop, whose truth is known, and on drawn pictures."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from crow_daemon.gate.chain import GateChain
from crow_daemon.gate.difference import changed_share
from crow_daemon.gate.gate import Alert, GateReason, Luma
from crow_sim.shop.lens import Rain
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.view import AISLE, TILL, View

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US
NEVER_S = 80_000

STEADY = Light()
DRIFTING = Light(drift_share=0.1, drift_period_s=60)
EMPTY_SHOP = Renderer(Scene(AISLE), 1280, 720)
SWITCHED = Light(steps=((110.0, 0.7), (115.0, 1.0)))


class Seen:
    """A sample; `people` says what a detector would."""

    def __init__(self, luma: Luma, *, people: bool = False, visible: Luma | None = None) -> None:
        self.luma = luma
        self.visible = visible
        self.people = people
        self.searches = 0

    def somebody(self) -> bool:
        self.searches += 1
        return self.people


class Tried:
    """A gate whose sendings all succeed, unless told otherwise."""

    def __init__(self, heartbeat_s: float = NEVER_S, motion_ttl_s: float = 0.0, *, people_only: bool = False) -> None:
        self.gate = GateChain(heartbeat_s, motion_ttl_s, people_only=people_only)

    def try_one(
        self, luma: Luma, second: float, *, alert: Alert | None = None, people: bool = False, taken: bool = True
    ) -> GateReason | None:
        at_us = START_US + round(second * SECOND_US)
        held = self.gate.judge(Seen(luma, people=people), at_us, alert).held
        if held is None and taken:
            self.gate.sent(luma, at_us)
        return held


def luma(bgr: "np.ndarray") -> Luma:
    return cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (320, 180), interpolation=cv2.INTER_AREA)


def passed(tried: Tried, pictures: Callable[[int], Luma], seconds: int) -> list[bool]:
    """Whether each picture, one a second, was sent."""
    return [tried.try_one(pictures(second), second) is None for second in range(seconds)]


@pytest.mark.parametrize("light", [STEADY, DRIFTING, SWITCHED])
@pytest.mark.parametrize("view", [AISLE, TILL])
def test_people_are_sent_and_empty_stretches_are_not(view: View, light: Light) -> None:
    shop = Renderer(planned_scene(view, seed=5, seconds=120, light=light), 640, 360)
    sent = passed(Tried(), lambda second: luma(shop.picture(second)), 120)
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
    assert passed(Tried(), lambda second: luma(empty.picture(second)), 60) == [True] + [False] * 59


def test_a_drop_that_stays_on_the_lens_is_sent_when_it_comes_and_goes_only() -> None:
    wet = Renderer(Scene(AISLE, rain=Rain(drops_per_minute=4, stays_s=20), seed=3), 640, 360)
    sent = passed(Tried(), lambda second: luma(wet.picture(second)), 120)
    assert sum(sent) <= 0.4 * len(sent)


def with_clock(second: int) -> Luma:
    """As cameras write it into their pictures, 3 to 4 % of the height."""
    bgr = EMPTY_SHOP.picture(second)
    for colour, thickness in ((0, 6), (255, 2)):
        text = f"2026-11-22 09:{59 if second < 30 else 0:02}:{second % 60:02}"
        cv2.putText(bgr, text, (30, 50), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (colour,) * 3, thickness)
    return luma(bgr)


def test_a_clock_in_the_picture_is_no_activity() -> None:
    first, *others = (with_clock(second) for second in range(60))
    tried = Tried()
    tried.try_one(first, 0)
    assert None not in {tried.try_one(other, second) for second, other in enumerate(others, 1)}


def flat(level: int, square_at: int | None = None, noise: float = 0.0, seed: int = 0, contrast: int = 80) -> Luma:
    ramp = np.tile(np.linspace(0.7, 1.3, 320), (180, 1)) * level
    if square_at is not None:
        ramp[60:110, square_at : square_at + 25] -= contrast
    ramp += np.random.default_rng(seed).normal(0, noise, ramp.shape) if noise else 0
    return ramp.clip(0, 255).astype(np.uint8)


def noisy(square_at: int | None = None, seed: int = 0) -> Luma:
    """As cameras are: no picture comes twice."""
    return flat(100, square_at, noise=2.0, seed=seed)


def test_the_first_sample_always_goes_out() -> None:
    assert Tried(60).try_one(flat(100), 0) is None


@pytest.mark.parametrize("noise", [0.5, 3.0, 12.0])
def test_noise_alone_is_no_activity_and_a_body_in_it_is(noise: float) -> None:
    tried = Tried()
    tried.try_one(flat(100, noise=noise), 0)
    assert tried.try_one(flat(100, noise=noise, seed=1), 1) is GateReason.NO_ACTIVITY
    assert tried.try_one(flat(100, 50, noise=noise, seed=2), 2) is None


def test_a_body_is_seen_beside_a_mask_over_most_of_the_picture() -> None:
    tried = Tried()
    before, after, body = (flat(100, at, noise=6.0, seed=seed) for at, seed in ((None, 0), (None, 1), (10, 2)))
    for picture in (before, after, body):
        picture[:, 100:] = 0
    tried.try_one(before, 0)
    assert tried.try_one(after, 1) is GateReason.NO_ACTIVITY
    assert tried.try_one(body, 2) is None


def test_somebody_who_stands_still_is_sent_once_and_again_when_gone() -> None:
    scene = [noisy(at, seed) for seed, at in enumerate([None, 50, 50, 50, None, None])]
    assert passed(Tried(), lambda second: scene[second], 6) == [True, True, False, False, True, False]


def test_after_activity_samples_go_out_for_the_ttl_and_no_longer() -> None:
    scene = [noisy(at, seed) for seed, at in enumerate([None, None, 50, 80, 80, 80, 80, 80])]
    sent = passed(Tried(motion_ttl_s=2.0), lambda second: scene[second], 8)
    assert sent == [True, False, True, True, True, True, False, False]


def test_what_changes_once_and_stands_goes_out_once() -> None:
    scene = [noisy(at, seed) for seed, at in enumerate([None, None, 50, 50, 50, None, None])]
    sent = passed(Tried(motion_ttl_s=2.0), lambda second: scene[second], 7)
    assert sent == [True, False, True, False, False, True, False]


def test_a_person_who_is_found_once_is_followed_for_the_ttl() -> None:
    tried = Tried(motion_ttl_s=2.0, people_only=True)
    scene = [noisy(None if second < 2 else 50 * second, second) for second in range(6)]
    held = [tried.try_one(picture, second, people=second == 2) for second, picture in enumerate(scene)]
    assert held == [None, GateReason.NO_PERSON, None, None, None, GateReason.NO_PERSON]


def test_the_same_picture_once_more_is_a_duplicate_even_within_the_ttl() -> None:
    tried = Tried(motion_ttl_s=5.0)
    tried.try_one(noisy(), 0)
    assert tried.try_one(noisy(50, 1), 1) is None
    assert tried.try_one(noisy(50, 1), 2) is GateReason.DUPLICATE
    assert tried.try_one(noisy(50, 2), 3) is None


def test_a_movement_too_slow_for_neighbours_adds_up() -> None:
    decisions = passed(Tried(), lambda second: flat(100, 50 + second, contrast=20), 60)
    assert decisions[:3] == [True, False, False]
    assert sum(decisions) >= 5


def test_what_was_not_sent_is_not_the_reference() -> None:
    tried = Tried()
    tried.try_one(noisy(), 0)
    for second in range(1, 4):
        assert tried.try_one(noisy(50, second), second, taken=False) is None


def test_a_heartbeat_goes_out_from_a_still_scene() -> None:
    decisions = passed(Tried(heartbeat_s=10), lambda second: noisy(seed=second), 31)
    assert [second for second, sent in enumerate(decisions) if sent] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("alert", "reason"),
    [(alert, GateReason(alert)) for alert in (Alert.BLACK, Alert.FROZEN, Alert.COVERED)]
    + [(alert, GateReason.NO_ACTIVITY) for alert in (Alert.MOVED, Alert.NO_DETECTOR)],
)
def test_an_alert_holds_back_neither_activity_nor_heartbeats_and_is_the_reason_where_nothing_can_be_seen(
    alert: Alert, reason: GateReason
) -> None:
    tried = Tried(heartbeat_s=3)
    tried.try_one(noisy(), 0)
    still = [tried.try_one(noisy(seed=second), second, alert=alert) for second in range(1, 5)]
    assert still == [reason, reason, None, reason]
    assert tried.try_one(noisy(50, 5), 5, alert=alert) is None


def test_the_same_picture_again_is_told_to_be_frozen_when_it_is() -> None:
    tried = Tried()
    tried.try_one(noisy(), 0)
    held = [tried.try_one(noisy(), second, alert=alert) for second, alert in ((1, None), (2, Alert.FROZEN))]
    assert held == [GateReason.DUPLICATE, GateReason.FROZEN]


def test_a_clock_set_back_does_not_silence_the_gate() -> None:
    tried = Tried(60)
    tried.try_one(noisy(), 0)
    assert tried.try_one(noisy(seed=1), -3600) is None


def test_a_clock_set_back_does_not_prolong_the_ttl() -> None:
    tried = Tried(motion_ttl_s=2.0)
    tried.try_one(noisy(), 0)
    tried.try_one(noisy(50, 1), 1)
    tried.try_one(noisy(50, 2), -3600)
    assert tried.try_one(noisy(50, 3), -3599) is GateReason.NO_ACTIVITY


def test_a_change_of_resolution_goes_out() -> None:
    tried = Tried()
    tried.try_one(noisy(), 0)
    assert tried.try_one(noisy()[:100], 1) is None


def test_only_people_are_sent_where_people_are_wanted_and_all_the_time_that_they_are_there() -> None:
    tried = Tried(people_only=True)
    tried.try_one(noisy(), 0)
    assert tried.try_one(noisy(50, 1), 1, people=False) is GateReason.NO_PERSON
    assert tried.try_one(noisy(200, 2), 2, people=True) is None
    assert tried.try_one(noisy(200, 3), 3) is None, "who stands still is still there"
    assert tried.try_one(noisy(None, 4), 4, people=False) is GateReason.NO_PERSON


def test_the_detector_looks_only_when_something_has_changed_since_it_looked_last() -> None:
    gate = GateChain(NEVER_S, 0.0, people_only=True)
    gate.sent(noisy(), START_US)
    seen = [Seen(noisy(at, second)) for second, at in enumerate([None, None, None, 50, 50, None], start=1)]
    for second, sight in enumerate(seen, start=1):
        gate.judge(sight, START_US + second * SECOND_US, None)
    assert [sight.searches for sight in seen] == [1, 0, 0, 1, 0, 1]


def test_what_is_too_little_for_activity_stirs() -> None:
    gate = GateChain(NEVER_S, 0.0, people_only=False)
    little = noisy(seed=1)
    little[20:32, 20:30] -= 60
    gate.sent(noisy(), START_US)
    verdicts = [gate.judge(Seen(picture), START_US + 1, None) for picture in (noisy(seed=2), little, noisy(50, 3))]
    assert [(verdict.held, verdict.stirs) for verdict in verdicts] == [
        (GateReason.NO_ACTIVITY, False),
        (GateReason.NO_ACTIVITY, True),
        (None, False),
    ]


def test_activity_begins_once_after_each_pause() -> None:
    gate = GateChain(NEVER_S, 0.0, people_only=False)
    begins = []
    for second, at in enumerate([None, None, 50, 80, 80, 120]):
        picture, at_us = noisy(at, second), START_US + second * SECOND_US
        verdict = gate.judge(Seen(picture), at_us, None)
        begins.append(verdict.begins)
        if verdict.held is None:
            gate.sent(picture, at_us)
    assert begins == [False, False, True, False, False, True]


def test_where_little_is_visible_it_is_the_visible_that_counts() -> None:
    visible = np.zeros((180, 320), np.uint8)
    visible[80:98, 302:320] = 255
    gate = GateChain(NEVER_S, 0.0, people_only=False)
    pictures = [noisy(), noisy(seed=1), noisy(seed=2)]
    pictures[2][82:92, 304:314] -= 60  # a fifth of a per cent of the whole picture
    sights = [Seen(cv2.bitwise_and(picture, visible), visible=visible) for picture in pictures]
    gate.sent(sights[0].luma, START_US)
    held = [gate.judge(sight, START_US + 1, None).held for sight in sights]
    assert held == [GateReason.DUPLICATE, GateReason.NO_ACTIVITY, None]


@pytest.mark.parametrize("level", [0, 1, 255])
def test_black_and_white_pictures_are_judged_too(level: int) -> None:
    tried = Tried()
    picture = np.full((180, 320), level, np.uint8)
    tried.try_one(picture, 0)
    assert tried.try_one(picture, 1) is GateReason.DUPLICATE
    assert tried.try_one(flat(120, 30), 2) is None


@pytest.mark.parametrize("gain", [0.4, 0.8, 1.5])
def test_brightness_alone_is_no_change_at_all(gain: float) -> None:
    before = flat(100, 50)
    assert changed_share(before, (before * gain).clip(0, 255).astype(np.uint8)) < 0.001
