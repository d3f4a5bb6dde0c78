"""From the outbox to the queues: what was committed with the analyses is published, in order, once.

1. Rows of one session are published in the order of their ids; a row that fails holds back its own session only.
2. A row is marked as dispatched after the queue has it on disk. A crash in between publishes it again, and the queue
   knows its message id.
3. A row is never given up: it is tried again for ever, at most every `MAX_BACKOFF_S`, and counted.
4. When two sessions in a row meet a fault that may pass, the queue is down: nothing is published until a probe goes
   through. A probe is one row of a session that was not tried lately, after a wait that grows to `MAX_BACKOFF_S`; so a
   queue that is down for a day is not hammered, however many sessions wait.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from crow_receiver.queue.port import Message, OutputQueue
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

PASS_ROWS = 256
DOWN_AFTER = 2  # sessions refused in a row: one may be its message's fault
IDLE_S = 1.0  # between two looks when nobody wakes the dispatcher: when a postponed row is found due
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message that waits in the outbox; `attempts` counts the failed tries so far."""

    id: int
    queue: str
    message_id: str
    session_id: str
    body: bytes
    headers: Mapping[str, str]
    attempts: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits in the outbox, and since when."""

    pending: int
    oldest_us: int | None


class Outbox(Protocol):
    """The receiver's outbox table, as the dispatcher needs it. Methods raise CrowError(UNAVAILABLE)."""

    async def due(self, now_us: int, limit: int) -> list[OutboxRow]:
        """Rows to publish, by rising id, without those of a session that has an earlier row postponed beyond now."""
        ...

    async def dispatched(self, ids: Sequence[int], now_us: int) -> None:
        """The queue has these rows on disk."""
        ...

    async def failed(self, row_id: int, error: str, not_before_us: int) -> None:
        """Postpones the row and counts the try."""
        ...

    async def backlog(self) -> Backlog:
        """What waits, postponed rows included."""
        ...


class Dispatcher:
    """Publishes what the outbox holds; one task runs it."""

    def __init__(self, outbox: Outbox, queue: OutputQueue, clock: Clock, registry: CollectorRegistry) -> None:
        self._outbox = outbox
        self._queue = queue
        self._clock = clock
        self._woken = asyncio.Event()
        self._refusals = 0  # since the last row that was published: faults that may pass, one session's in a row once
        self._refused_session: str | None = None  # the last of them
        self._probe_s = 0.0  # of the monotonic clock: while the queue is down, not before that
        self.publishing = asyncio.Lock()  # whoever holds it sees no row that is read, but not yet marked as dispatched
        self._pending = Gauge(
            "crow_receiver_outbox_pending_messages", "Messages committed and not yet on a queue", registry=registry
        )
        self._oldest_age = Gauge(
            "crow_receiver_outbox_oldest_age_seconds", "Age of the oldest such message", registry=registry
        )
        self._published = Counter(
            "crow_receiver_published_messages", "Messages put on a queue", ["queue"], registry=registry
        )
        self._doubled = Counter(
            "crow_receiver_deduplicated_messages", "Messages that the queue had already", ["queue"], registry=registry
        )
        self._failures = Counter("crow_receiver_publish_failures", "Tries that failed", registry=registry)

    def wake(self) -> None:
        """Says that the outbox has new rows. To be called on the event loop."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatches until `stop` is set, and once more after that for what the last batches left."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._pass_logged()
                woken = asyncio.create_task(self._woken.wait())
                await asyncio.wait({woken, stopping}, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                self._woken.clear()
            await self._pass_logged()
        finally:
            stopping.cancel()

    async def run_once(self) -> int:
        """Publishes all that is due; returns how many rows left the outbox. Raises CrowError when the outbox fails."""
        dispatched = 0
        while not self._down or self._clock.monotonic_s() >= self._probe_s:
            limit = 1 if self._down else PASS_ROWS
            async with self.publishing:
                rows = await self._outbox.due(self._clock.now_us(), limit)
                count = await self._dispatch(rows)
            dispatched += count
            if len(rows) < limit or not count:
                break
        await self._measure()
        return dispatched

    @property
    def _down(self) -> bool:
        return self._refusals >= DOWN_AFTER

    async def _dispatch(self, rows: list[OutboxRow]) -> int:
        """Publishes rows session by session until the queue is found to be down; returns how many left the outbox."""
        by_session = groupby(sorted(rows, key=attrgetter("session_id")), attrgetter("session_id"))
        dispatched = 0
        was_down = self._down
        for _, group in by_session:
            dispatched += await self._dispatch_session(list(group))
            if self._down:
                break
        if was_down and not self._down:
            log.info("the queue takes messages again")
        return dispatched

    async def _pass_logged(self) -> None:
        try:
            await self.run_once()
        except CrowError as error:
            log.warning("the outbox does not answer; trying again", code=error.code, error=error.message)

    async def _dispatch_session(self, rows: list[OutboxRow]) -> int:
        """Publishes one session's rows in order, as far as that works; returns how many left the outbox."""
        try:
            await self._publish(rows)
        except CrowError as error:
            if len(rows) == 1:
                await self._postpone(rows[0], error)
                return 0
            # One of them is at fault: those before it need not wait, those after it have to.
            for count, row in enumerate(rows):
                if not await self._dispatch_session([row]):
                    return count
        return len(rows)

    async def _publish(self, rows: list[OutboxRow]) -> None:
        messages = [Message(row.queue, row.message_id, row.body, row.headers) for row in rows]
        fresh = await asyncio.to_thread(self._queue.publish_many, messages)
        self._refusals, self._refused_session = 0, None
        for row, is_fresh in zip(rows, fresh, strict=True):
            (self._published if is_fresh else self._doubled).labels(row.queue).inc()
        await self._outbox.dispatched([row.id for row in rows], self._clock.now_us())

    async def _postpone(self, row: OutboxRow, error: CrowError) -> None:
        self._failures.inc()
        if error.retryable and (self._down or row.session_id != self._refused_session):
            self._refusals += 1
            self._refused_session = row.session_id
        delay_s = _backoff_s(row.attempts)
        log.warning(
            "a message could not be published; its session waits",
            message_id=row.message_id,
            session_id=row.session_id,
            attempts=row.attempts + 1,
            delay_s=round(delay_s, 1),
            code=error.code,
            error=error.message,
        )
        await self._outbox.failed(row.id, error.message, self._clock.now_us() + round(delay_s * 1_000_000))
        if self._down:
            wait_s = _backoff_s(self._refusals - DOWN_AFTER)
            self._probe_s = self._clock.monotonic_s() + wait_s
            log.warning("the queue takes nothing; all sessions wait", tries=self._refusals, next_try_s=round(wait_s, 1))

    async def _measure(self) -> None:
        backlog = await self._outbox.backlog()
        age_us = 0 if backlog.oldest_us is None else max(0, self._clock.now_us() - backlog.oldest_us)
        self._pending.set(backlog.pending)
        self._oldest_age.set(age_us / 1_000_000)


def _backoff_s(failures: int) -> float:
    """How long to wait after so many failures before this one."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * (1 << min(failures, 10))) * random.uniform(0.5, 1)  # noqa: S311 — jitter
