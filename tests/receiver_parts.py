"""A store on disk, pictures, and an engine that tests can script."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from crow_receiver.store import cameras
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.frames import StoredFrame, advance_past
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis, Provenance, Scene
from crow_shared.frame import Frame, TimeSource
from crow_shared.identity import CameraKey

# 2027-01-15 08:00 UTC, the start of an hour, and the manual clock's now
HOUR_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
GAP_US = 300 * SECOND_US


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "receiver")
    yield opened
    opened.close()


def jpeg(shade: int = 128, width: int = 64, height: int = 48) -> bytes:
    coded, data = cv2.imencode(".jpg", np.full((height, width, 3), shade, np.uint8))
    assert coded
    return data.tobytes()


PICTURE = jpeg()


def frame_at(capture_us: int, seq: int, camera_id: str = "till") -> Frame:
    made = Frame.of_picture(camera_id, capture_us, TimeSource.ARRIVAL, 64, 48, PICTURE)
    return Frame(**{field: getattr(made, field) for field in made.__slots__} | {"seq": seq})


async def known_camera(store: Store, camera_id: str = "till") -> CameraRow:
    key = CameraKey("acme", "shop", camera_id)
    return await store.write(lambda tx: cameras.announce(tx.db, key, "Till", 1000))


async def put(store: Store, camera: CameraRow, seq: int, capture_us: int, now_us: int = HOUR_US) -> StoredFrame:
    """Stores a frame as a daemon's stream does."""
    frame = frame_at(capture_us, seq, camera.key.camera_id)
    return await store.write(lambda tx: advance_past(tx, camera, "epoch", frame, now_us, GAP_US))


def analysis(description: str = "Nobody is here.", engine: str = "scripted") -> Analysis:
    scene = Scene(people=[], interactions=[], queue_length=None, confidence=0.5, description=description)
    provenance = Provenance(
        engine=engine, model=None, model_sha256=None, prompt_version=None, limits=["a test's engine"], duration_ms=1
    )
    return Analysis(scene=scene, provenance=provenance)


class ScriptedVision:
    """Describes frames as the test says; `answer` may raise CrowError."""

    engine_name = "scripted"

    def __init__(self, answer: Callable[[VisionRequest], Analysis] | None = None, slots: int = 1) -> None:
        self.slots = slots
        self.answer = answer or (lambda request: analysis(f"Seen at {request.capture_us}."))
        self.seen: list[tuple[str, int]] = []
        self.most_at_once = 0
        self._under_way = 0

    async def describe(self, request: VisionRequest) -> Analysis:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        self.seen.append((request.camera, request.capture_us))
        return self.answer(request)


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Waits for what other tasks bring about."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
