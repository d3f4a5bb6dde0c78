"""A receiver's state with every kind of end in it, made by the real parts, and audited on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from conftest import ManualClock
from prometheus_client import CollectorRegistry
from receiver_parts import HOUR_US, SECOND_US, analysis, known_camera, put, store

from crow_receiver.audit.audit import audit
from crow_receiver.audit.numbers import ALWAYS, Span
from crow_receiver.audit.report import AuditReport
from crow_receiver.audit.spool import SpoolStatus
from crow_receiver.queue.dispatch import Dispatcher
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE
from crow_receiver.session import records
from crow_receiver.session.records import BatchLimits, Outcome
from crow_receiver.store import cameras, frames
from crow_receiver.store.outbox import StoredOutbox
from crow_receiver.store.store import Store, Transaction
from crow_shared.identity import CameraKey

__all__ = ["store"]

LIMITS = BatchLimits(frames=10, age_s=30)


class Audited:
    """The state, with what changes it and what looks at it."""

    def __init__(self, directory: Path, store: Store, queue: EmbeddedQueue, clock: ManualClock) -> None:
        self.directory, self.store, self.queue, self.clock = directory, store, queue, clock
        self.dispatcher = Dispatcher(StoredOutbox(store), queue, clock, CollectorRegistry())

    def audit(
        self, span: Span = ALWAYS, only: CameraKey | None = None, spools: Sequence[SpoolStatus] = ()
    ) -> AuditReport:
        return audit(self.directory, self.queue, self.clock, span, only, spools)

    def tamper(self, statement: str, *values: object, database: str = "receiver.db") -> None:
        """Changes rows behind the receiver's back."""
        db = sqlite3.connect(self.directory / database, isolation_level=None)
        assert db.execute(statement, values).rowcount, "nothing was tampered with"
        db.close()

    async def analyse(self, count: int, failures: Callable[[int], str | None] = lambda _: None) -> None:
        """Gives the next frames that wait their outcomes, and writes the batches and windows that are due."""

        def work(tx: Transaction) -> None:
            for number in range(count):
                (frame, *_) = frames.next_frames(tx.db, self.clock.now_us())
                failure = failures(number)
                found = None if failure else analysis(f"Seen at {frame.capture_us}.")
                outcome = Outcome(frame, found, failure)
                records.record(tx, frame.session_id, [outcome], LIMITS, self.clock.now_us())

        await self.store.write(work)

    async def close(self, session_id: str) -> None:
        assert await self.store.write(lambda tx: records.close(tx.db, session_id, LIMITS, self.clock.now_us()))


@pytest.fixture
async def state(store: Store, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Audited]:
    """Camera till: 24 told and 1 failed in a closed session, 3 missing; 3 analysed and 2 pending in an open one."""
    queue = EmbeddedQueue(tmp_path / "receiver" / "queue.db", clock)
    made = Audited(tmp_path / "receiver", store, queue, clock)
    camera = await known_camera(store)
    stored = await asyncio.gather(
        *(put(store, camera, seq, HOUR_US + seq * 5 * SECOND_US) for seq in range(1, 26)),
    )
    closed = stored[0].session_id
    await made.analyse(25, lambda number: "picture_corrupt: no picture" if number == 7 else None)
    await made.close(closed)
    await store.write(lambda tx: cameras.pass_over(tx.db, camera.id, "epoch", 26, 28, "spool_full", "", clock.now_us()))
    later_us = HOUR_US + 3600 * SECOND_US
    await asyncio.gather(*(put(store, camera, seq, later_us + seq * SECOND_US) for seq in range(29, 34)))
    await made.analyse(3)
    await made.dispatcher.run_once()
    (first,) = queue.pull(INTERACTION_QUEUE, 1, 30)
    queue.ack(INTERACTION_QUEUE, [first.lease_id])
    yield made
    queue.close()
