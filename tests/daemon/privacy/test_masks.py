"""What is masked is in no frame: not in its pixels, whatever the size, and not in what a gate or a detector sees."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crow_daemon.capture.encoder import encode_jpeg
from crow_daemon.privacy.masks import Masks
from crow_shared.zones import Polygon

RINGING = 8  # grey levels: what JPEG's blocks carry over an edge inside a black area, at most so far
TRIANGLE: Polygon = ((0.21, 0.13), (0.83, 0.37), (0.4, 0.91))


def inside(polygon: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """Every pixel that the polygon touches, drawn forty times finer than the masks' own code does."""
    fine = np.zeros((height * 8, width * 8), np.uint8)
    points = (np.array(polygon) * (width * 8, height * 8) - 0.5).round().astype(np.int32)
    cv2.fillPoly(fine, [points], 1)
    return fine.reshape(height, 8, width, 8).max(axis=(1, 3)) > 0


def white_inside(polygon: Polygon, width: int, height: int) -> NDArray[np.uint8]:
    """White behind the mask and black around it: whatever is not black in the end has leaked."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[inside(polygon, width, height)] = 255
    return pixels


@pytest.mark.parametrize("quality", [30, 85, 100])
@pytest.mark.parametrize("long_side", [1920, 896, 640, 333])
def test_nothing_behind_a_mask_is_in_the_jpeg_at_any_size(long_side: int, quality: int) -> None:
    size = (long_side, round(long_side * 9 / 16))
    scaled = cv2.resize(white_inside(TRIANGLE, 1920, 1080), size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    masked = Masks((TRIANGLE,)).paint(scaled)
    assert not masked.any()
    assert scaled.any(), "the picture is not changed itself"
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(masked, quality), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert not decoded.any()


def test_beside_a_bright_scene_a_mask_shows_ringing_at_most() -> None:
    scene = np.random.default_rng(1).integers(100, 256, (540, 960, 3)).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(Masks((TRIANGLE,)).paint(scene), 85), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    core = cv2.erode(inside(TRIANGLE, 960, 540).astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
    assert decoded[core].max() <= RINGING, "two blocks of 4:2:0 away from the edge there is nothing at all"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8).map(tuple),
    st.integers(16, 200),
    st.integers(16, 200),
)
def test_any_polygon_covers_every_pixel_that_it_touches(polygon: Polygon, width: int, height: int) -> None:
    pixels = np.full((height, width), 255, np.uint8)
    assert not Masks((polygon,)).paint(pixels)[inside(polygon, width, height)].any()


def test_what_is_not_masked_stays_as_it_is() -> None:
    scene = np.random.default_rng(1).integers(1, 256, (180, 320, 3)).astype(np.uint8)
    masked = Masks((TRIANGLE, ((0.0, 0.0), (0.1, 0.0), (0.1, 0.1)))).paint(scene)
    far = cv2.dilate((masked == 0).any(axis=2).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert np.array_equal(masked[far], scene[far])
    assert far.mean() > 0.6


def test_many_sizes_keep_no_masks_for_ever() -> None:
    masks = Masks((TRIANGLE,))
    for side in range(20, 60):
        masks.paint(np.zeros((side, side), np.uint8))
    assert len(masks._open) <= 4
