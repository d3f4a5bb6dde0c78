"""Carries out what `crow-receiver erase` asks for: in a running receiver as a task, else in the command itself."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Protocol

import structlog

from crow_receiver.messages.interaction import with_frames
from crow_receiver.queue.port import INTERACTION_QUEUE, OutputQueue, Rewriting
from crow_receiver.store import erasures
from crow_receiver.store.erasures import Erasure
from crow_receiver.store.store import Store
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

LOOK_S = 1.0
FRAMES_AT_ONCE = 50  # in one transaction, which daemons wait for: each may lie in a file of its own, to be synced
MESSAGES_AT_ONCE = 100


class Sessions(Protocol):
    """Those who have to know that frames of theirs are gone."""

    def erased(self, camera: int, session_id: str, *, reopened: bool) -> None:
        """Frames of this session were erased; `reopened`: it had been closed."""
        ...


class Eraser:
    """Erases frames with all that was learnt from them, as far as this receiver reaches."""

    def __init__(
        self, store: Store, queue: OutputQueue, clock: Clock, sessions: Sessions | None, publishing: asyncio.Lock
    ) -> None:
        """`publishing` is held while messages are on their way from the outbox to the queue.

        Without `sessions` the receiver does not run: its sessions find what was erased when it starts.
        """
        self._store = store
        self._queue = queue
        self._clock = clock
        self._sessions = sessions
        self._publishing = publishing

    async def run(self) -> None:
        """Carries out requests until cancelled."""
        while True:
            try:
                for erasure in await self.run_once():
                    log.info("erased", erasure=erasure.id, camera=str(erasure.camera), reason=erasure.reason)
            except CrowError as error:
                log.warning("an erasure is not done yet; trying again", error=error.message)
            await asyncio.sleep(LOOK_S)

    async def run_once(self) -> list[Erasure]:
        """Carries out what is asked for, and returns it. Raises CrowError when that has to be tried again."""
        asked = await self._store.read(erasures.under_way)
        for erasure in asked:
            await self._carry_out(erasure)
        return asked

    async def _carry_out(self, erasure: Erasure) -> None:
        for session_id in await self._store.read(lambda db: erasures.sessions_of(db, erasure)):
            await self._erase_in(erasure, session_id)
        async with self._publishing:
            pass  # what was read from the outbox before that is on the queue now
        while await self._rewrite_some(erasure):
            pass
        await self._store.empty_log()
        done_us = self._clock.now_us()
        receipt = await self._store.read(
            lambda db: _receipt(erasures.by_id(db, erasure.id), done_us, *erasures.message_outcomes(db, erasure))
        )
        await self._store.write(lambda tx: erasures.finish(tx.db, erasure, receipt, done_us))

    async def _erase_in(self, erasure: Erasure, session_id: str) -> None:
        while True:
            erased = await self._store.write(
                lambda tx: erasures.erase_in_session(tx, erasure, session_id, FRAMES_AT_ONCE)
            )
            if not erased.frames:
                return
            if self._sessions is not None:
                self._sessions.erased(erasure.camera_row, session_id, reopened=erased.reopened)

    async def _rewrite_some(self, erasure: Erasure) -> bool:
        messages = await self._store.read(lambda db: erasures.open_messages(db, erasure, MESSAGES_AT_ONCE))
        if not messages:
            return False
        rewritten = await asyncio.to_thread(
            self._queue.rewrite,
            INTERACTION_QUEUE,
            list(messages),
            _change({key: kept for key, (_, kept) in messages.items()}),
        )
        outcomes = {
            message_id: _outcome(rewritten[message_id], dispatched, kept)
            for message_id, (dispatched, kept) in messages.items()
        }
        await self._store.write(lambda tx: erasures.settle_messages(tx.db, erasure, outcomes))
        return True


def _change(kept: dict[str, set[int]]) -> Callable[[str, bytes], bytes | None]:
    return lambda message_id, body: with_frames(body, kept[message_id])


def _outcome(rewritten: Rewriting, dispatched: bool, kept: set[int]) -> str:
    # One that was dispatched and is not known to the queue any more was taken, longer ago than the queue remembers.
    if rewritten is Rewriting.SEEN or (rewritten is Rewriting.ABSENT and dispatched):
        return "taken"
    return "rebuilt" if kept else "withdrawn"


def _receipt(erasure: Erasure, done_us: int, messages: dict[str, int], taken: list[str]) -> str:
    told = erasure.facts() | {
        "done_us": done_us,
        "messages_rebuilt": messages.get("rebuilt", 0),
        "messages_withdrawn": messages.get("withdrawn", 0),
        "messages_taken": taken,
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**told, "sha256": digest})
