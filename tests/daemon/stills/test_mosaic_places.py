"""Where cameras stand in a mosaic."""

from dataclasses import replace

import pytest

from crow_daemon.registry.camera import Camera, RtspAddress
from crow_daemon.registry.url import CameraUrl
from crow_daemon.stills.mosaic import MOST_PIXELS, Place, checked_size, places
from crow_shared.errors import CrowError


def cameras(*given: Place | None) -> list[Camera]:
    plain = Camera("till", "Till", RtspAddress(CameraUrl.parse("rtsp://10.0.0.9/1")))
    return [
        replace(plain, id=f"c{index}", grid_row=place and place[0], grid_column=place[1] if place else None)
        for index, place in enumerate(given)
    ]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([None], [(0, 0)]),
        ([None] * 3, [(0, 0), (0, 1), (1, 0)]),
        ([None] * 5, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        ([(0, 1), (1, 0), None], [(0, 1), (1, 0), (0, 0)]),
        ([(0, 0), (0, 0)], [(0, 0), (0, 1)]),
        ([(2, 3), None], [(2, 3), (0, 0)]),
        ([(0, 0), None, (0, 1)], [(0, 0), (1, 0), (0, 1)]),
    ],
)
def test_each_camera_stands_in_its_place_or_in_a_free_one(given: list[Place | None], found: list[Place]) -> None:
    assert places(cameras(*given)) == found


def test_as_many_cameras_as_there_may_be_all_find_a_place() -> None:
    found = places(cameras(*[None] * 200, (31, 31)))
    assert len(set(found)) == 201


def test_a_mosaic_that_no_memory_would_hold_is_refused_with_what_to_do() -> None:
    far_apart = cameras((0, 0), (31, 31))
    height, width = checked_size(far_apart, 160)
    assert height * width <= MOST_PIXELS
    with pytest.raises(CrowError, match="--tile-width"):
        checked_size(far_apart, 640)
