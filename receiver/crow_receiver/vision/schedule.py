"""Which frame is analysed next: the waiting line lies in the database, the cameras take turns.

Invariants
1. A frame is under way at most once at a time, and so is a camera. Its frames that are not late go first; late ones
   have every fourth of its turns, and all while nothing else of it waits. Within each of the two lines the order is
   that of arrival, except that a frame whose next try lies in the future lets those behind it pass.
2. A slot that is free goes to the camera that has waited longest for its turn, however much waits of another; of the
   cameras whose engine has room, where there are several engines.
3. At most `slots` frames are under way, and of the next ones only two rows for each camera are in memory, whatever
   waits; they are not older than `READ_AGAIN_S`.
4. A frame ends analysed, or failed with its reason: after a fault that will not pass, or after `TRIES` tries at which
   it killed a worker, outlasted it, or made a server fail. Both are on disk before its place is given to the next. When
   that cannot be written, or there is no worker or server, the frame simply still waits.
"""

import asyncio
import random
from typing import Protocol

import structlog

from crow_receiver.session.records import Outcome
from crow_receiver.store import frames
from crow_receiver.store.frames import PendingFrame
from crow_receiver.store.store import Store
from crow_receiver.vision.asking import request_for, said_before
from crow_receiver.vision.port import FRAME_AT_FAULT, Vision
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

TRIES = 3
LATE_TURN = 4  # of a camera's turns
LOOK_AGAIN_S = 1.0  # for frames whose next try lies in the future
READ_AGAIN_S = 1.0
RETRY_FIRST_S = 1.0


class Sessions(Protocol):
    """Those who record outcomes."""

    async def finished(self, camera: int, session_id: str, outcome: Outcome) -> None:
        """Records a frame's outcome. Raises CrowError when it could not be written."""
        ...


class AnalysisScheduler:
    """Feeds waiting frames to the engine and their outcomes to the sessions."""

    def __init__(
        self,
        store: Store,
        vision: Vision,
        sessions: Sessions,
        clock: Clock,
        frames_waiting: asyncio.Event,
        *,
        tells_previous: bool = False,
    ) -> None:
        """`frames_waiting` is set by whoever stores a frame; `tells_previous`: engines hear of the frame before."""
        self._store = store
        self._vision = vision
        self._sessions = sessions
        self._clock = clock
        self._wake = frames_waiting
        self._tells_previous = tells_previous
        self._ready: list[PendingFrame] = []  # at most one of each camera, none of a camera that is under way
        self._under_way: dict[int, asyncio.Task[None]] = {}  # by camera
        self._at_work: dict[int, int] = {}  # the frames under way, by camera
        self._read_s = 0.0
        self._last_turn: dict[int, int] = {}  # by camera
        self._turn = 0
        self._since_late: dict[int, int] = {}  # by camera: turns since its last late frame
        self._held_up: dict[
            int, str
        ] = {}  # by camera: the code of what last put its frames back, until one got through

    @property
    def under_way(self) -> set[int]:
        """The frames that an engine is at, by row."""
        return set(self._at_work.values())

    async def run(self) -> None:
        """Analyses frames until cancelled."""
        try:
            while True:
                self._wake.clear()
                if len(self._under_way) < self._vision.slots:
                    if not self._ready or self._clock.monotonic_s() - self._read_s > READ_AGAIN_S:
                        self._ready = await self._next()
                    if (frame := self._next_with_room()) is not None:
                        self._start(frame)
                        continue
                await self._pause()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> list[PendingFrame]:
        """The next frame of each camera that is not under way, the longest waiting first."""
        now_us, busy = self._clock.now_us(), set(self._under_way)
        try:
            found = await self._store.read(lambda db: frames.next_frames(db, now_us))
        except CrowError as error:
            log.warning("the frames that wait cannot be read; trying again", error=error.message)
            return []
        self._read_s = self._clock.monotonic_s()
        chosen: dict[int, PendingFrame] = {}
        for frame in found:
            camera = frame.camera.id
            if camera not in busy and (camera not in chosen or frame.late is self._late_turn(camera)):
                chosen[camera] = frame
        return sorted(chosen.values(), key=lambda frame: self._last_turn.get(frame.camera.id, 0))

    def _next_with_room(self) -> PendingFrame | None:
        """Takes the first of the next frames whose engine has room."""
        for place, frame in enumerate(self._ready):
            if self._vision.has_room(frame.camera.engines):
                return self._ready.pop(place)
        return None

    def _late_turn(self, camera: int) -> bool:
        return self._since_late.get(camera, 0) >= LATE_TURN - 1

    def _start(self, frame: PendingFrame) -> None:
        self._turn += 1
        self._last_turn[frame.camera.id] = self._turn
        self._since_late[frame.camera.id] = 0 if frame.late else self._since_late.get(frame.camera.id, 0) + 1
        task = asyncio.create_task(self._analyse(frame), name=f"analyse frame {frame.id}")
        self._under_way[frame.camera.id] = task
        self._at_work[frame.camera.id] = frame.id
        task.add_done_callback(lambda done: self._ended(frame, done))

    def _ended(self, frame: PendingFrame, task: "asyncio.Task[None]") -> None:
        del self._under_way[frame.camera.id], self._at_work[frame.camera.id]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("analysis task failed; the frame still waits", frame=frame.id, exc_info=error)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _analyse(self, frame: PendingFrame) -> None:
        camera = frame.camera
        try:
            await self._try(frame)
        except CrowError as error:
            if self._held_up.get(camera.id) != error.code:
                self._held_up[camera.id] = error.code  # told once: it comes again each second while there is no engine
                log.warning("analysis put back; the frame still waits", camera=str(camera.key), error=error.message)
            await asyncio.sleep(RETRY_FIRST_S)
        else:
            self._held_up.pop(camera.id, None)

    async def _try(self, frame: PendingFrame) -> None:
        """Raises CrowError when no engine saw the frame, or what came of it could not be written."""
        try:
            coded = await self._store.read_picture(frame.picture)
            previous = await self._store.read(lambda db: said_before(db, frame)) if self._tells_previous else None
            # An engine that compares successive frames must not jump to and fro between then and now.
            request = request_for(frame, coded, "late" if frame.late else "", previous)
            outcome = Outcome(frame, analysis=await self._vision.describe(request))
        except CrowError as error:
            if error.retryable and error.code not in FRAME_AT_FAULT:
                raise
            if error.retryable and frame.attempts + 1 < TRIES:
                await self._put_off(frame, error)
                return
            reason = f"{error.code}: {error.message}" + (f" ({TRIES} tries)" if error.retryable else "")
            log.warning("frame failed", session=frame.session_id, frame_index=frame.frame_index, reason=reason)
            outcome = Outcome(frame, failure=reason)
        await self._sessions.finished(frame.camera.id, frame.session_id, outcome)

    async def _put_off(self, frame: PendingFrame, error: CrowError) -> None:
        log.warning("analysis failed; trying again", frame=frame.id, attempt=frame.attempts + 1, error=error.message)
        delay_us = int(RETRY_FIRST_S * 2**frame.attempts * random.uniform(0.5, 1) * 1_000_000)  # noqa: S311 — jitter
        later_us = self._clock.now_us() + delay_us
        await self._store.write(lambda tx: frames.put_off(tx.db, frame.id, error.message, later_us))
