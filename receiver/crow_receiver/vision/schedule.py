"""Which frame is analysed next: the waiting line lies in the database, the cameras take turns.

Invariants
1. A frame is under way at most once at a time, and so is a camera: its frames are analysed in order of arrival.
2. At most `slots` frames are under way, plus `READY_FRAMES` that are next: memory does not grow with the backlog.
3. A frame ends analysed, or failed with its reason after a fault that will not pass or `TRIES` tries. Both are on disk
   before its place is given to the next. If writing that fails, the frame simply still waits.
"""

import asyncio
import random
from typing import Protocol

import structlog

from crow_receiver.session.records import Outcome
from crow_receiver.store import cameras, frames
from crow_receiver.store.frames import PendingFrame
from crow_receiver.store.store import Store
from crow_receiver.vision.port import Vision, VisionRequest
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

TRIES = 3
READY_FRAMES = 32
LOOK_AGAIN_S = 1.0  # for frames whose next try lies in the future
RETRY_FIRST_S = 1.0
ZONES = ("left", "centre", "right")  # until cameras bring zones of their own


class Sessions(Protocol):
    """Those who record outcomes."""

    async def finished(self, camera: int, session_id: str, outcome: Outcome) -> None:
        """Records a frame's outcome. Raises CrowError when it could not be written."""
        ...


class AnalysisScheduler:
    """Feeds waiting frames to the engine and their outcomes to the sessions."""

    def __init__(
        self, store: Store, vision: Vision, sessions: Sessions, clock: Clock, frames_waiting: asyncio.Event
    ) -> None:
        """`frames_waiting` is set by whoever stores a frame."""
        self._store = store
        self._vision = vision
        self._sessions = sessions
        self._clock = clock
        self._wake = frames_waiting
        self._ready: list[PendingFrame] = []
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._busy_cameras: set[int] = set()

    async def run(self) -> None:
        """Analyses frames until cancelled."""
        try:
            while True:
                self._wake.clear()
                if not self._ready:
                    await self._fill()
                if not self._start_one():
                    await self._pause()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_one(self) -> bool:
        """Starts the next frame whose camera is free; False when there is none or no slot for it."""
        if len(self._under_way) >= self._vision.slots:
            return False
        frame = next((frame for frame in self._ready if frame.camera not in self._busy_cameras), None)
        if frame is None:
            return False
        self._ready.remove(frame)
        self._busy_cameras.add(frame.camera)
        task = asyncio.create_task(self._analyse(frame), name=f"analyse frame {frame.id}")
        self._under_way[frame.id] = task
        task.add_done_callback(lambda done: self._ended(frame, done))
        return True

    def _ended(self, frame: PendingFrame, task: "asyncio.Task[None]") -> None:
        del self._under_way[frame.id]
        self._busy_cameras.discard(frame.camera)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("analysis task failed; the frame still waits", frame=frame.id, exc_info=error)

    async def _fill(self) -> None:
        now_us, under_way = self._clock.now_us(), set(self._under_way)
        self._ready = await self._store.read(lambda db: frames.pending_frames(db, now_us, READY_FRAMES, under_way))

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), LOOK_AGAIN_S)
        except TimeoutError:
            return

    async def _analyse(self, frame: PendingFrame) -> None:
        try:
            camera = await self._store.read(lambda db: cameras.by_id(db, frame.camera))
            jpeg = await self._store.read_picture(frame.picture)
            request = VisionRequest(str(camera.key), camera.name, frame.capture_us, ZONES, jpeg)
            outcome = Outcome(frame, analysis=await self._vision.describe(request))
        except CrowError as error:
            if error.retryable and frame.attempts + 1 < TRIES:
                await self._put_off(frame, error)
                return
            reason = f"{error.code}: {error.message}" + (f" ({TRIES} tries)" if error.retryable else "")
            log.warning("frame failed", session=frame.session_id, frame_index=frame.frame_index, reason=reason)
            outcome = Outcome(frame, failure=reason)
        try:
            await self._sessions.finished(frame.camera, frame.session_id, outcome)
        except CrowError as error:
            log.warning("outcome not recorded; the frame will be analysed again", error=error.message)
            await asyncio.sleep(RETRY_FIRST_S)

    async def _put_off(self, frame: PendingFrame, error: CrowError) -> None:
        log.warning("analysis failed; trying again", frame=frame.id, attempt=frame.attempts + 1, error=error.message)
        delay_us = int(RETRY_FIRST_S * 2**frame.attempts * random.uniform(0.5, 1) * 1_000_000)  # noqa: S311 — jitter
        later_us = self._clock.now_us() + delay_us
        await self._store.write(lambda tx: frames.put_off(tx.db, frame.id, error.message, later_us))
