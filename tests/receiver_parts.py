"""A store on disk, pictures, and an engine that tests can script."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ManualClock

from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import BatchLimits
from crow_receiver.store import cameras, frames
from crow_receiver.store.arrivals import Arrival, StoredFrame, store_stream
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.outbox import StoredOutbox
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schedule import AnalysisScheduler
from crow_receiver.vision.schema import Analysis, Provenance, Scene
from crow_shared.frame import Frame, TimeSource
from crow_shared.identity import CameraKey

# 2027-01-15 08:00 UTC, the start of an hour, and the manual clock's now
HOUR_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
GAP_US = 300 * SECOND_US
GAP_S = 300.0
LIMITS = BatchLimits(frames=10, age_s=30)


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


async def put(
    store: Store, camera: CameraRow, seq: int, capture_us: int, now_us: int = HOUR_US, *, late: bool = False
) -> StoredFrame:
    """Stores a frame as a daemon's stream does."""
    frame = frame_at(capture_us, seq, camera.key.camera_id)
    arrival = Arrival(camera, frame, now_us, late)
    ((_, stored),) = await store.write(lambda tx: store_stream(tx, "epoch", [arrival], GAP_US))
    return stored


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

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        return True

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


class Receiver:
    """Store, sessions and scheduler with a scripted engine and a clock that the test moves."""

    def __init__(
        self, store: Store, clock: ManualClock, vision: ScriptedVision, *, tells_previous: bool = False
    ) -> None:
        self.store, self.clock, self.vision = store, clock, vision
        waiting = asyncio.Event()
        self.directory = SessionDirectory(store, clock, LIMITS, GAP_S, lambda: None, waiting.set)
        self.scheduler = AnalysisScheduler(store, vision, self.directory, clock, waiting, tells_previous=tells_previous)
        self.outbox = StoredOutbox(store)

    async def start(self) -> None:
        await self.directory.resume()
        self.task = asyncio.create_task(self.scheduler.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.directory.stop()

    async def frame(self, seq: int, capture_us: int, camera_id: str = "till", *, late: bool = False) -> str:
        camera = await known_camera(self.store, camera_id)
        stored = await put(self.store, camera, seq, capture_us, self.clock.now_us(), late=late)
        self.directory.stored(camera, stored)
        return stored.session_id

    async def messages(self, queue: str) -> list[dict[str, object]]:
        rows = await self.outbox.due(2**60, 1000)
        return [json.loads(row.body) for row in rows if row.queue == queue]

    async def behind_s(self) -> float:
        rows = await self.store.read(frames.analysis_backlog)
        return max(row.behind_s(self.clock.now_us()) for row in rows)

    async def closed(self) -> None:
        await until(lambda: self.directory.open_sessions == 0)
