"""Whoever is blurred cannot be told apart, and what moves is blurred where there is no detector."""

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crow_daemon.capture.encoder import Bgr
from crow_daemon.gate.gate import Luma
from crow_daemon.privacy.hide import hide
from crow_daemon.privacy.moving import MovingRegions
from crow_daemon.privacy.region import WHOLE, Region
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.view import AISLE

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US
SHOP = Renderer(planned_scene(AISLE, seed=11, seconds=180), 320, 180)


def people(seed: int, size: tuple[int, int] = (120, 300)) -> Bgr:
    """Fine structure, as faces and clothes have, over the same coarse shape."""
    coarse = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 2, 3)).astype(np.uint8), size)
    fine = np.random.default_rng(seed).integers(-60, 60, (size[1] // 6, size[0] // 6, 3)).astype(np.float32)
    return np.clip(coarse + cv2.resize(fine, size), 0, 255).astype(np.uint8)


def detail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is finer than a quarter of a face."""
    values = pixels.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), 12)


def fine_part(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    values = pixels.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), 6)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_two_different_people_cannot_be_told_apart_once_hidden() -> None:
    """An attacker who has both originals guesses by likeness of detail: there is none left to go by."""
    one, other = people(1), people(2)
    hidden = hide(one, (WHOLE,))
    right, wrong = (likeness(detail(hidden), detail(original)) for original in (one, other))
    assert abs(right - wrong) < 0.1
    weak = cv2.GaussianBlur(one, (0, 0), 3).astype(np.uint8)
    assert likeness(detail(weak), detail(one)) > 0.5, "the control: a weak blur leaves enough to tell"


def test_undoing_the_smoothing_brings_no_detail_back() -> None:
    """The control is the same smoothing alone, which comes off."""
    original = people(1)
    hidden = hide(original, (WHOLE,))

    def sharpened(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
        blurred = pixels.astype(np.float32)
        guess = blurred.copy()
        for _ in range(60):  # Van Cittert's deconvolution
            guess += blurred - cv2.GaussianBlur(guess, (0, 0), sigma)
        return fine_part(guess)

    fine = fine_part(original)
    cell = 120 / 4
    assert abs(likeness(sharpened(hidden, cell / 2), fine)) < 0.1
    smoothed = cv2.GaussianBlur(original, (0, 0), 3).astype(np.uint8)
    assert likeness(sharpened(smoothed, 3), fine) > 0.5


def test_a_small_region_gets_no_finer_cells_than_a_large_one() -> None:
    """A face by itself, or a hand that moves: as few means as there are in a person of the same size."""
    rows, columns = np.mgrid[0:504, 0:896]
    features = ((rows - 252) // 8 + (columns - 448) // 8) % 2 * 255  # of an eighth of the face
    picture = np.repeat(features[..., None].astype(np.uint8), 3, axis=2)
    face = hide(picture, (Region(0.5, 0.5, 0.5 + 32 / 896, 0.5 + 32 / 504),))[252:284, 448:480]
    assert np.ptp(face.astype(int)) < 10


def test_only_the_regions_change() -> None:
    picture = people(3)
    hidden = hide(picture, (Region(0.25, 0.5, 0.75, 1.0),))
    changed = (hidden != picture).any(axis=2)
    assert not changed[:150].any()
    assert not changed[:, :30].any()
    assert changed[150:, 30:90].mean() > 0.9


@pytest.mark.parametrize("region", [Region(0.5, 0.5, 0.5, 0.9), Region(0.999, 0.999, 1.0, 1.0), Region(0, 0, 1e-9, 1)])
def test_the_smallest_regions_are_no_trouble(region: Region) -> None:
    assert hide(people(1), (region,)).shape == people(1).shape


def grey(bgr: Bgr) -> Luma:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint8)


@cache
def shop(second: int) -> Luma:
    return grey(SHOP.picture(second))


def covered(regions: tuple[Region, ...]) -> NDArray[np.bool_]:
    found = np.zeros((180, 320), bool)
    for region in regions:
        left, top, right, bottom = region.pixels(320, 180)
        found[top:bottom, left:right] = True
    return found


def empty_start(second: int) -> Luma:
    """The shop is empty for a minute, then its scene begins."""
    return grey(Renderer(Scene(AISLE, seed=second), 320, 180).picture(second)) if second < 60 else shop(second - 60)


def test_before_the_background_is_known_everything_is_hidden() -> None:
    moving = MovingRegions()
    found = [moving.look(shop(second), START_US + second * SECOND_US) for second in range(30)]
    assert found == [(WHOLE,)] * 30


def test_whoever_comes_into_an_empty_shop_is_covered_by_the_regions() -> None:
    moving, seen, hidden_share = MovingRegions(), [], []
    for second in range(220):
        regions = moving.look(empty_start(second), START_US + second * SECOND_US)
        if second < 60:
            continue
        found = covered(regions)
        hidden_share.append(found.mean())
        for person in SHOP.truth(second - 60).people:
            box = person.box
            visible = (cv2.absdiff(SHOP.picture(second - 60), SHOP.empty()).max(axis=2) > 40)[
                box.top : box.bottom, box.left : box.right
            ]
            if visible.sum() > 150:
                inside = found[box.top : box.bottom, box.left : box.right]
                seen.append(float((inside & visible).sum() / visible.sum()))
    assert len(seen) > 80
    assert np.mean(seen) > 0.98
    assert min(seen) > 0.8
    assert np.mean(hidden_share) < 0.5, "not by hiding everything"


def test_an_empty_shop_is_left_as_it_is_also_when_the_light_is_switched() -> None:
    switched = Renderer(Scene(AISLE, light=Light(steps=((60.0, 0.6),))), 320, 180)
    moving = MovingRegions()
    found = [moving.look(grey(switched.picture(n)), START_US + n * SECOND_US) for n in range(90)]
    assert found[40:] == [()] * 50


def test_a_region_stays_hidden_for_a_while_after_its_last_movement() -> None:
    moving = MovingRegions()
    at_us = START_US
    for second in range(60):
        moving.look(empty_start(second), START_US + second * SECOND_US)
        at_us = START_US + second * SECOND_US
    body = empty_start(1).copy()
    body[60:140, 100:130] = 255
    assert covered(moving.look(body, at_us + SECOND_US))[60:140, 100:130].all()
    after = [moving.look(empty_start(n), at_us + (1 + n) * SECOND_US) for n in range(1, 15)]
    assert covered(after[9])[70:130, 105:125].all()
    assert after[11] == ()
