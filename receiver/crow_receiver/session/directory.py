"""Who is open: one actor per open session, started when its first frame is stored or when the receiver starts.

Invariants
1. Every session in state `open` has exactly one running actor, and only those have one.
2. A frame that is stored while its session's actor is closing finds that closing refused, or starts a new actor.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from crow_receiver.session import records
from crow_receiver.session.actor import (
    CoverageChanged,
    FrameArrived,
    FrameFinished,
    FramesErased,
    IngestSession,
    LaterSessionBegan,
)
from crow_receiver.session.records import BatchLimits, Outcome
from crow_receiver.store.arrivals import StoredFrame
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.store import Store
from crow_shared.clock import Clock

log = structlog.get_logger()


class SessionDirectory:
    """Starts, finds and stops the session actors."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: BatchLimits,
        gap_s: float,
        wake_outbox: Callable[[], None],
        wake_analysis: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._gap_s = gap_s
        self._wake_outbox = wake_outbox
        self._wake_analysis = wake_analysis
        self._closing = asyncio.Lock()
        self._actors: dict[str, tuple[int, IngestSession, asyncio.Task[None]]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def open_sessions(self) -> int:
        """How many actors run."""
        return len(self._actors)

    async def resume(self) -> None:
        """Starts the actors of all sessions that were open when the receiver stopped."""
        for session_id, camera in await self._store.read(records.open_sessions):
            self._actor(session_id, camera)

    def stored(self, camera: CameraRow, stored: StoredFrame) -> None:
        """A new frame is durable: its session hears of it, and when that is new, so do the camera's earlier ones."""
        new = stored.session_id not in self._actors
        self._actor(stored.session_id, camera.id).post(FrameArrived())
        if new:
            self._supersede(camera, stored.session_id)
        self._wake_analysis()

    def opened(self, camera: CameraRow, session_id: str) -> None:
        """A session was opened before its first frame."""
        self._actor(session_id, camera.id)
        self._supersede(camera, session_id)

    def covered(self, camera: CameraRow, session_ids: Sequence[str]) -> None:
        """What is known of the camera's samples has changed after these sessions have told of it."""
        for session_id in session_ids:
            self._actor(session_id, camera.id).post(CoverageChanged())

    def erased(self, camera: int, session_id: str, *, reopened: bool) -> None:
        """Frames of this session were erased; `reopened`: it had been closed."""
        if reopened or session_id in self._actors:
            self._actor(session_id, camera).post(FramesErased())

    async def finished(self, camera: int, session_id: str, outcome: Outcome) -> None:
        """Hands a frame's outcome to its session and returns when it is on disk. Raises CrowError when it is not."""
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._actor(session_id, camera).post(FrameFinished(outcome, recorded))
        await recorded

    async def stop(self) -> None:
        """Ends all actors; the database holds what they knew."""
        tasks = [task for _, _, task in self._actors.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _supersede(self, camera: CameraRow, by_session_id: str) -> None:
        for session_id, (camera_id, actor, _) in self._actors.items():
            # Ids of one camera sort by time. A late frame that opens an old session must not end a later one.
            if camera_id == camera.id and session_id < by_session_id:
                actor.post(LaterSessionBegan())

    def _actor(self, session_id: str, camera: int) -> IngestSession:
        known = self._actors.get(session_id)
        if known is not None and not known[1].ended:
            return known[1]
        actor = IngestSession(
            session_id, self._store, self._clock, self._limits, self._gap_s, self._wake_outbox, self._closing
        )
        task = asyncio.create_task(actor.run(), name=f"session {session_id}")
        task.add_done_callback(lambda done: self._ended(session_id, done))
        self._actors[session_id] = (camera, actor, task)
        return actor

    def _ended(self, session_id: str, task: "asyncio.Task[None]") -> None:
        if self._actors[session_id][2] is task:
            del self._actors[session_id]
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)
