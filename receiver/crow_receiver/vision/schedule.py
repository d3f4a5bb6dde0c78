"""Which frame is analysed next: the waiting line lies in the database, the cameras take turns.

Invariants
1. A frame is under way at most once at a time, and so is a camera. Its frames that are not late go first; late ones
   have every fourth of its turns, and all while nothing else of it waits. Within each of the two lines the order is
   that of arrival, except that a frame whose next try lies in the future lets those behind it pass.
2. A slot that is free goes to the camera whose turn it is, however much waits of another; of the cameras whose engine
   has room, where there are several engines. Where not all can be served, a camera whose last analysis showed nobody
   and nothing has one turn to `QUIET_TURNS` of another camera: never none. By stride scheduling (Waldspurger and Weihl,
   "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995).
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
QUIET_TURNS = 3
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
        self._due: dict[int, int] = {}  # by camera: when its next turn is due, in turns that pass
        self._round = 0  # when the first of the next frames was due as they were read
        self._now = 0  # when the turn that was given last was due
        self._quiet: set[int] = set()  # cameras whose last analysis showed nobody and nothing
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
                    if self._round_is_over() or self._clock.monotonic_s() - self._read_s > READ_AGAIN_S:
                        self._ready = await self._next()
                        self._round = self._order(self._ready[0].camera.id)[0] if self._ready else 0
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
        return sorted(chosen.values(), key=lambda frame: self._order(frame.camera.id))

    def _round_is_over(self) -> bool:
        """Whether a camera that was served may have a turn before those that are left."""
        return not self._ready or self._order(self._ready[0].camera.id)[0] > self._round

    def _order(self, camera: int) -> tuple[int, int]:
        """The smaller, the earlier its turn. One that had nothing to do for long has saved up no turns."""
        return max(self._due.get(camera, 0), self._now), self._last_turn.get(camera, 0)

    def _next_with_room(self) -> PendingFrame | None:
        """Takes the first of the next frames whose engine has room."""
        for place, frame in enumerate(self._ready):
            if self._vision.has_room(frame.camera.engines):
                return self._ready.pop(place)
        return None

    def _late_turn(self, camera: int) -> bool:
        return self._since_late.get(camera, 0) >= LATE_TURN - 1

    def _start(self, frame: PendingFrame) -> None:
        camera = frame.camera.id
        self._turn += 1
        self._now = self._order(camera)[0]
        self._due[camera] = self._now + (QUIET_TURNS if camera in self._quiet else 1)
        self._last_turn[camera] = self._turn
        self._since_late[camera] = 0 if frame.late else self._since_late.get(camera, 0) + 1
        task = asyncio.create_task(self._analyse(frame), name=f"analyse frame {frame.id}")
        self._under_way[camera] = task
        self._at_work[camera] = frame.id
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
            request = request_for(frame, coded, "late" if frame.late else "", previous, may_repeat=True)
            outcome = Outcome(frame, analysis=await self._vision.describe(request))
            self._note_scene(frame.camera.id, outcome)
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

    def _note_scene(self, camera: int, outcome: Outcome) -> None:
        scene = outcome.analysis.scene if outcome.analysis else None
        if scene is not None and not (scene.people or scene.interactions):
            self._quiet.add(camera)
        else:
            self._quiet.discard(camera)

    async def _put_off(self, frame: PendingFrame, error: CrowError) -> None:
        log.warning("analysis failed; trying again", frame=frame.id, attempt=frame.attempts + 1, error=error.message)
        delay_us = int(RETRY_FIRST_S * 2**frame.attempts * random.uniform(0.5, 1) * 1_000_000)  # noqa: S311 — jitter
        later_us = self._clock.now_us() + delay_us
        await self._store.write(lambda tx: frames.put_off(tx.db, frame.id, error.message, later_us))
