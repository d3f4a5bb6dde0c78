"""IngestSession: the actor that owns one session's state.

Invariants
1. Only the session's own task changes its rows after the frames are stored; everything else sends it messages. Erasure
   changes them itself, and tells it to look again; `crow-receiver reanalyse` revises what was told, in one transaction.
2. An analysis, the batch that it completes and that batch's message are one transaction.
3. What has to be done next is derived from the database, so that a restart goes on where the last commit left off.
4. A session closes when no frame of it waits for analysis and either nothing has arrived for the gap, or a later
   session of its camera has begun and nothing has arrived for `SETTLE_S`. The closing transaction checks it again. One
   that had been closed before waits for the whole gap, so that a backlog does not close and open it again and again.
5. On exit every message that asked for an answer has one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from crow_receiver.session import records
from crow_receiver.session.records import BatchLimits, Outcome, SessionState
from crow_receiver.store.store import Store
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

TICK_S = 0.5
SETTLE_S = 20.0  # in which a daemon tells what became of the samples of the last minute
RETRY_S = 1.0
GROUP_OUTCOMES = 64  # outcomes put into one transaction


@dataclass(frozen=True, slots=True)
class FrameArrived:
    """A frame of this session is durable."""


@dataclass(frozen=True, slots=True)
class LaterSessionBegan:
    """A later session of the same camera has frames."""


@dataclass(frozen=True, slots=True)
class FramesErased:
    """Frames of this session are gone, with what was learnt from them."""


@dataclass(frozen=True, slots=True)
class CoverageChanged:
    """More is known of the samples of a minute that this session has told of."""


@dataclass(frozen=True, slots=True)
class FrameFinished:
    """The analysis of a frame, or the reason why there will be none; `recorded` is answered after the commit."""

    outcome: Outcome
    recorded: asyncio.Future[None]

    def answer(self, error: CrowError | None) -> None:
        """Tells the one who waits, unless that one has given up or has been told."""
        if self.recorded.done():
            return
        if error is None:
            self.recorded.set_result(None)
        else:
            self.recorded.set_exception(error)


SessionMessage = FrameArrived | LaterSessionBegan | FramesErased | CoverageChanged | FrameFinished


class IngestSession:
    """One session while it is open."""

    def __init__(
        self,
        session_id: str,
        store: Store,
        clock: Clock,
        limits: BatchLimits,
        gap_s: float,
        wake_outbox: Callable[[], None],
        closing: asyncio.Lock,
    ) -> None:
        """`closing` is shared by all sessions."""
        self.session_id = session_id
        self._store = store
        self._clock = clock
        self._limits = limits
        self._gap_s = gap_s
        self._wake_outbox = wake_outbox
        self._closing = closing
        self._inbox: asyncio.Queue[SessionMessage] = asyncio.Queue()
        self._in_hand: list[FrameFinished] = []  # taken from the inbox and perhaps not answered yet
        self._state = SessionState(0, 0, None, None, is_open=True, reopened=False)
        self._counted_s = clock.monotonic_s()
        self._last_arrival_s = clock.monotonic_s()
        self._superseded = False
        self.ended = False  # from here on nothing may be posted; set without a wait after the last look at the inbox

    def post(self, message: SessionMessage) -> None:
        """Sends the actor a message."""
        self._inbox.put_nowait(message)

    async def run(self) -> None:
        """Works until the session is closed. Cancelling it loses nothing: the database holds all."""
        try:
            await self._resume()
            while not await self._closed():
                await self._work(await self._messages())
        finally:
            self.ended = True
            self._answer_all(CrowError(Kind.UNAVAILABLE, "session_stopped", f"session {self.session_id} has stopped"))

    async def _resume(self) -> None:
        self._state, last_arrival_us = await self._store.read(lambda db: records.resume(db, self.session_id))
        idle_s = max(0.0, (self._clock.now_us() - last_arrival_us) / 1_000_000)
        self._counted_s = self._clock.monotonic_s()
        self._last_arrival_s = self._counted_s - idle_s

    async def _count(self) -> None:
        self._counted_s = self._clock.monotonic_s()
        try:
            self._state, _ = await self._store.read(lambda db: records.resume(db, self.session_id))
        except CrowError as error:
            log.warning("session could not be read; trying again", session=self.session_id, error=error.message)

    async def _messages(self) -> list[SessionMessage]:
        try:
            async with asyncio.timeout(TICK_S):
                messages = [await self._inbox.get()]
        except TimeoutError:
            return []
        while not self._inbox.empty() and len(messages) < GROUP_OUTCOMES:
            messages.append(self._inbox.get_nowait())
        return messages

    async def _work(self, messages: list[SessionMessage]) -> None:
        finished = self._in_hand = []
        changed = False
        for message in messages:
            match message:
                case FrameArrived():
                    self._last_arrival_s = self._clock.monotonic_s()
                    self._state.pending += 1
                    self._state.is_open = True
                case LaterSessionBegan():
                    self._superseded = True
                case FramesErased():
                    changed = True
                case CoverageChanged():
                    changed = True
                    if self._state.reopened:  # more of it may come: one revision for all
                        self._last_arrival_s = self._clock.monotonic_s()
                case FrameFinished():
                    finished.append(message)
        now_us = self._clock.now_us()
        if not finished and not changed and not self._state.due(now_us, self._limits):
            return
        outcomes = [message.outcome for message in finished]
        try:
            self._state, told = await self._store.write(
                lambda tx: records.record(tx, self.session_id, outcomes, self._limits, now_us)
            )
        except CrowError as error:
            log.warning("session could not be written; the frames will be analysed again", error=error.message)
            for message in finished:
                message.answer(error)
            await asyncio.sleep(RETRY_S)
            return
        for message in finished:
            message.answer(None)
        if told:
            self._wake_outbox()

    async def _closed(self) -> bool:
        idle_s = self._clock.monotonic_s() - self._last_arrival_s
        superseded = self._superseded and not self._state.reopened
        over = idle_s >= self._gap_s or (superseded and idle_s >= SETTLE_S)
        if not self._inbox.empty():
            return False
        if not self._state.is_open:  # started by an outcome that was told twice
            return True
        if over and self._state.pending and self._clock.monotonic_s() - self._counted_s >= SETTLE_S:
            await self._count()  # an outcome may have overtaken the news of its frame
        if not over or self._state.pending:
            return False
        now_us = self._clock.now_us()
        try:
            # One at a time: a summary reads the whole hour, and at its end all cameras close. In one group commit they
            # would hold up every daemon and upload for seconds.
            async with self._closing:
                closed = await self._store.write(lambda tx: records.close(tx.db, self.session_id, self._limits, now_us))
        except CrowError as error:
            log.warning("session could not be closed; trying again", session=self.session_id, error=error.message)
            await asyncio.sleep(RETRY_S)
            return False
        self._wake_outbox()
        if closed:
            log.info("session closed", session=self.session_id)
        if not closed or not self._inbox.empty():  # a frame was stored meanwhile, and may have opened it again
            await self._resume()
            return False
        return True

    def _answer_all(self, error: CrowError) -> None:
        for message in self._in_hand:
            message.answer(error)
        while not self._inbox.empty():
            waiting = self._inbox.get_nowait()
            if isinstance(waiting, FrameFinished):
                waiting.answer(error)
