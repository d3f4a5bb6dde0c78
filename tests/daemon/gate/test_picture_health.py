"""Alerts about the picture: each starts after its time, ends with its cause, and what happens in a shop raises none."""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import count

import cv2
import numpy as np
import pytest

from crow_daemon.gate.gate import Alert, Luma
from crow_daemon.gate.health import PictureHealth
from crow_daemon.privacy.masks import Masks
from crow_sim.shop.lens import Rain
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.view import AISLE, TILL, View

SECOND_US = 1_000_000
NONE = Masks(())
START_US = 1_800_000_000 * SECOND_US
SHOP = Renderer(planned_scene(AISLE, seed=4, seconds=300), 320, 180)
ELSEWHERE = Renderer(planned_scene(TILL, seed=4, seconds=300), 320, 180)


def grey(bgr: "np.ndarray") -> Luma:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint8)


@cache
def shop(second: int) -> Luma:
    return grey(SHOP.picture(second))


def noise(level: float, sigma: float, seed: int) -> Luma:
    return np.random.default_rng(seed).normal(level, sigma, (180, 320)).clip(0, 255).astype(np.uint8)


def black(second: int) -> Luma:
    return noise(4, 2, second)


def nearly_black(second: int) -> Luma:
    return noise(20, 2, second)


HAND = cv2.resize(noise(70, 20, 0)[:4, :7], (320, 180), interpolation=cv2.INTER_CUBIC)


def a_hand(second: int) -> Luma:
    return cv2.add(HAND, noise(5, 2, second))


def out_of_focus(second: int) -> Luma:
    blurred = cv2.GaussianBlur(SHOP.picture(second), (0, 0), 6).astype(np.uint8)
    return cv2.add(grey(blurred), noise(1, 0.6, second))


@cache
def elsewhere(second: int) -> Luma:
    return grey(ELSEWHERE.picture(second))


def frozen(_: int) -> Luma:
    return shop(61)


def alerts(
    pictures: Iterable[Luma],
    interval_s: float = 1.0,
    health: PictureHealth | None = None,
    masks: Masks = NONE,
) -> list[Alert | None]:
    looked, visible = health or PictureHealth(), masks.visible(320, 180) if masks else None
    times_us = (START_US + round(n * interval_s * SECOND_US) for n in count())
    return [looked.look(masks.paint(luma), at_us, visible) for luma, at_us in zip(pictures, times_us, strict=False)]


@pytest.mark.parametrize(
    ("show", "kind", "after_s"),
    [
        (black, Alert.BLACK, 5),
        (frozen, Alert.FROZEN, 31),  # the first one is no repeat yet
        (a_hand, Alert.COVERED, 20),
        (out_of_focus, Alert.COVERED, 20),
        (elsewhere, Alert.MOVED, 60),
    ],
)
def test_an_alert_starts_after_its_time_and_ends_with_its_cause(
    show: Callable[[int], Luma], kind: Alert, after_s: int
) -> None:
    found = alerts([*map(shop, range(60)), *map(show, range(60, 160)), *map(shop, range(160, 170))])
    assert found[: 60 + after_s] == [None] * (60 + after_s)
    assert set(found[60 + after_s : 160]) == {kind}
    assert found[160:] == [None] * 10


@pytest.mark.parametrize("view", [AISLE, TILL])
@pytest.mark.parametrize(
    "disturbed",
    [
        {"light": Light(drift_share=0.3, drift_period_s=120)},
        {"light": Light(steps=((100.0, 0.35),))},
        {"noise_sigma": 10.0},
        {"rain": Rain(drops_per_minute=30)},
    ],
    ids=lambda disturbed: next(iter(disturbed)),
)
def test_customers_light_noise_and_rain_raise_no_alert(view: View, disturbed: dict[str, object]) -> None:
    planned = planned_scene(view, seed=9, seconds=240)
    disturbed_shop = Renderer(Scene(view, planned.visits, **disturbed), 320, 180)
    assert alerts(grey(disturbed_shop.picture(second)) for second in range(240)) == [None] * 240


def test_a_short_disturbance_raises_none() -> None:
    pictures = [a_hand(n) if 60 <= n < 75 else black(n) if 90 <= n < 94 else shop(n) for n in range(120)]
    assert set(alerts(pictures)) == {None}


def test_rare_samples_raise_an_alert_only_when_there_were_three() -> None:
    found = alerts([shop(0), shop(1), *map(black, range(4))], interval_s=60)
    assert found == [None, None, None, None, Alert.BLACK, Alert.BLACK]


def test_a_camera_that_stays_moved_is_believed_in_the_end() -> None:
    found = alerts([*map(shop, range(60)), *(elsewhere(n % 290) for n in range(60, 800))])
    moved = [n for n, alert in enumerate(found) if alert]
    assert (moved[0], moved[-1]) == (120, 659)
    assert set(found[660:]) == {None}


def bare(second: int) -> Luma:
    return noise(150, 2, second)


@pytest.mark.parametrize("show", [a_hand, out_of_focus, bare])
def test_what_covers_a_camera_is_reported_for_a_day_and_then_believed(show: Callable[[int], Luma]) -> None:
    health, day_s, step_s = PictureHealth(), 86_400, 600
    alerts(map(shop, range(60)), health=health)
    found = [
        health.look(show(60 + second % 240), START_US + (60 + second) * SECOND_US)
        for second in range(0, day_s + 10 * step_s, step_s)
    ]
    assert set(found[2 : day_s // step_s]) == {Alert.COVERED}
    assert set(found[day_s // step_s :]) == {None}


def plainer(second: int) -> Luma:
    """A wall with a door frame."""
    wall = np.full((180, 320), 150, np.uint8)
    cv2.rectangle(wall, (120, 40), (200, 180), 70, 4)
    return cv2.add(wall, noise(5, 2, second))


def test_a_plainer_view_is_believed_in_the_end() -> None:
    found = alerts([*map(shop, range(60)), *map(plainer, range(60, 800))])
    assert set(found[80:660]) == {Alert.COVERED}
    assert set(found[660:]) == {None}


def customers_before_a_wall(second: int) -> Luma:
    passing = cv2.absdiff(SHOP.picture(second % 290), SHOP.empty()).max(axis=2) > 20
    return np.where(passing, shop(second % 290), plainer(second)).astype(np.uint8)


def test_customers_before_a_plainer_view_keep_its_alert_neither_alive_nor_flickering() -> None:
    found = alerts([*map(shop, range(60)), *map(customers_before_a_wall, range(60, 800))])
    assert None not in found[80:660]
    assert set(found[660:]) == {None}


def test_a_clock_set_back_neither_starts_nor_keeps_an_alert_wrongly() -> None:
    health = PictureHealth()
    alerts(map(shop, range(60)), health=health)
    later_us = START_US + 60 * SECOND_US
    assert health.look(black(1), later_us) is None
    assert health.look(black(2), later_us - 3600 * SECOND_US) is None
    assert health.look(black(3), later_us - 3596 * SECOND_US) is None
    assert health.look(black(4), later_us - 3590 * SECOND_US) is Alert.BLACK


def but_for(left: float, right: float) -> Masks:
    """Everything is masked but a strip from top to bottom, in shares of the width."""
    sides = ((0.0, left), (right, 1.0))
    return Masks(tuple(((a, 0.0), (b, 0.0), (b, 1.0), (a, 1.0)) for a, b in sides if a < b))


@pytest.mark.parametrize("masks", [but_for(0.0, 0.5), but_for(0.3, 0.6), but_for(0.9, 1.0), but_for(0.0, 0.0)])
def test_a_mask_is_no_cover_and_makes_nothing_black_or_frozen(masks: Masks) -> None:
    assert set(alerts(map(shop, range(300)), masks=masks)) == {None}


@pytest.mark.parametrize(
    ("show", "kind"),
    [
        (black, Alert.BLACK),
        (nearly_black, Alert.BLACK),
        (frozen, Alert.FROZEN),
        (a_hand, Alert.COVERED),
        (out_of_focus, Alert.COVERED),
        (elsewhere, Alert.MOVED),
    ],
)
@pytest.mark.parametrize("masks", [but_for(0.0, 0.5), but_for(0.5, 1.0)])
def test_what_is_wrong_with_the_visible_half_is_told(show: Callable[[int], Luma], kind: Alert, masks: Masks) -> None:
    found = alerts([*map(shop, range(60)), *map(show, range(60, 180)), *map(shop, range(180, 190))], masks=masks)
    assert set(found[:60]) == {None}
    assert found[179] is kind
    assert set(found[180:]) == {None}
