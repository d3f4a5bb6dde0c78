"""A frame that shows what the one described before shows is answered by that one's analysis, and says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import cv2
import faulty_worker
import numpy as np
import pytest
from vision_parts import coded, request

from crow_receiver.vision.brief import Brief
from crow_receiver.vision.likeness import MAX_SKETCH_BYTES, alike, sketch
from crow_receiver.vision.port import FrameName, VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_receiver.vision.supervisor.job import Limits
from crow_receiver.vision.supervisor.workers import WorkerVision
from crow_receiver.vision.usage import Usage
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.errors import CrowError

SIZE = (360, 640)
RANDOM = np.random.default_rng(7)
SHELF = cv2.resize(RANDOM.integers(40, 200, (36, 64, 3), np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def noisy(picture: np.ndarray = SHELF, sigma: float = 3) -> np.ndarray:
    return np.clip(picture + RANDOM.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def with_hand(pixels: int) -> np.ndarray:
    """A hand of so many pixels on a side, of a picture of 640 x 360."""
    picture = SHELF.copy()
    picture[200 : 200 + pixels, 300 : 300 + pixels] = (140, 170, 210)
    return picture


def frame(
    index: int, picture: np.ndarray, second: float | None = None, session: str = "s", camera: str = "slow 0.01"
) -> VisionRequest:
    asked = request(coded(picture), index if second is None else second, camera)
    return replace(asked, frame=FrameName(session, index))


@pytest.fixture
async def vision() -> AsyncIterator[WorkerVision]:
    config = WorkerConfig(engine="openai")  # its name alone: the worker is another program
    started = WorkerVision(config, limits=Limits(duplicate_s=60), program=faulty_worker.PROGRAM)
    await started.start()
    try:
        yield started
    finally:
        await started.close()


def duplicates(analyses: list[Analysis]) -> list[int | None]:
    return [analysis.provenance.duplicate_of for analysis in analyses]


async def described(vision: WorkerVision, *frames: VisionRequest) -> list[Analysis]:
    return [await vision.describe(each) for each in frames]


@pytest.mark.parametrize("sigma", [0, 1, 3, 6])
def test_noise_is_no_difference(sigma: float) -> None:
    assert alike(sketch(noisy(sigma=sigma)), sketch(noisy(sigma=sigma)))


@pytest.mark.parametrize("sigma", [0, 3])
def test_a_hand_at_the_shelf_is_one(sigma: float) -> None:
    assert not alike(sketch(noisy(sigma=sigma)), sketch(noisy(with_hand(14), sigma)))


def test_other_light_another_size_and_another_picture_are_differences() -> None:
    before = sketch(noisy())
    assert not alike(before, sketch(noisy(np.clip(SHELF.astype(int) + 30, 0, 255).astype(np.uint8))))
    assert not alike(before, sketch(noisy(SHELF[:, :400])))
    assert not alike(before, sketch(RANDOM.integers(0, 255, (*SIZE, 3), np.uint8)))
    assert not alike(b"", before)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3000, 3000), SIZE])
def test_a_picture_of_any_shape_has_a_small_sketch(size: tuple[int, int]) -> None:
    drawn = sketch(np.zeros((*size, 3), np.uint8))
    assert len(drawn) <= MAX_SKETCH_BYTES
    assert alike(drawn, drawn)


async def test_a_frame_that_shows_the_same_is_answered_by_the_one_that_was_described(vision: WorkerVision) -> None:
    first, second, third, fourth = await described(
        vision, frame(0, noisy()), frame(1, noisy()), frame(2, noisy()), frame(3, noisy(with_hand(40)))
    )
    assert duplicates([first, second, third, fourth]) == [None, 0, 0, None]
    assert second.scene == first.scene
    assert second.provenance.usage == Usage()
    assert vision.near_duplicates == 2


async def test_what_changes_little_by_little_is_seen_in_the_end(vision: WorkerVision) -> None:
    steps = [np.clip(SHELF.astype(int) + 3 * step, 0, 255).astype(np.uint8) for step in range(8)]
    told = await described(vision, *(frame(index, picture) for index, picture in enumerate(steps)))
    assert duplicates(told)[:2] == [None, 0]
    assert duplicates(told)[3:].count(None) >= 1


@pytest.mark.parametrize(
    "change",
    [
        {"frame": None},
        {"frame": FrameName("another", 1)},
        {"zones": ()},
        {"brief": Brief("over the till")},
        {"camera": "slow 0.02"},
        {"capture_us": frame(0, SHELF).capture_us + 61_000_000},
        {"capture_us": frame(0, SHELF).capture_us},
    ],
    ids=["described whatever it shows", "session", "zones", "brief", "camera", "too old", "time stands"],
)
async def test_it_is_described_anew_where_the_answer_could_be_another(
    vision: WorkerVision, change: dict[str, object]
) -> None:
    asked = replace(frame(1, noisy()), **change)  # type: ignore[arg-type]
    assert duplicates(await described(vision, frame(0, noisy()), asked)) == [None, None]


async def test_a_worker_that_dies_takes_no_reference_along(vision: WorkerVision) -> None:
    await described(vision, frame(0, noisy()))
    (pid,) = vision.pids
    with pytest.raises(CrowError, match="killed"):
        await vision.describe(request(coded(SHELF), camera="kill"))
    assert duplicates(await described(vision, frame(1, noisy()))) == [0]
    assert vision.pids != [pid]


async def test_several_cameras_are_not_mixed_up(vision: WorkerVision) -> None:
    cameras = [f"slow 0.0{number}" for number in range(1, 5)]
    for index, expected in ((0, None), (1, 0)):
        asked = [vision.describe(frame(index, noisy(), camera=camera)) for camera in cameras]
        told = await asyncio.gather(*asked)
        assert duplicates(told) == [expected] * 4
        assert [analysis.scene.description for analysis in told] == cameras
