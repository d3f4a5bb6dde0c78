import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from conftest import ManualClock
from prometheus_client import CollectorRegistry, Counter, generate_latest

from crow_receiver.queue.dispatch import MAX_BACKOFF_S, PASS_ROWS, Backlog, Dispatcher, OutboxRow
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.metrics import QueueCollector
from crow_receiver.queue.port import INTERACTION_QUEUE, MAX_MESSAGE_BYTES
from crow_shared.errors import CrowError, Kind

QUEUE = INTERACTION_QUEUE


class ListOutbox:
    """An outbox in memory, which keeps what the dispatcher did."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.rows: list[OutboxRow] = []
        self.not_before_us: dict[int, int] = {}
        self.dispatched_ids: list[int] = []
        self.failures: list[tuple[int, str]] = []
        self.broken = False
        self.emptied = asyncio.Event()

    def add(self, session_id: str, message_id: str, body: bytes = b"{}", queue: str = QUEUE) -> None:
        self.rows.append(OutboxRow(len(self.rows) + 1, queue, message_id, session_id, body, {}, 0))

    async def due(self, now_us: int, limit: int) -> list[OutboxRow]:
        if self.broken:
            raise CrowError(Kind.UNAVAILABLE, "database_unavailable", "the disk is gone")
        held = set()
        due = []
        for row in self._waiting():
            if self.not_before_us.get(row.id, 0) > now_us:
                held.add(row.session_id)
            if row.session_id not in held:
                due.append(row)
        return due[:limit]

    async def dispatched(self, ids: Sequence[int], now_us: int) -> None:
        self.dispatched_ids += ids
        if not self._waiting():
            self.emptied.set()

    async def failed(self, row_id: int, error: str, not_before_us: int) -> None:
        row = self.rows[row_id - 1]
        self.rows[row_id - 1] = OutboxRow(
            row.id, row.queue, row.message_id, row.session_id, row.body, row.headers, row.attempts + 1
        )
        self.not_before_us[row_id] = not_before_us
        self.failures.append((row_id, error))

    async def backlog(self) -> Backlog:
        waiting = self._waiting()
        return Backlog(len(waiting), self._clock.now_us() - 5_000_000 if waiting else None)

    def _waiting(self) -> list[OutboxRow]:
        return [row for row in self.rows if row.id not in self.dispatched_ids]


@pytest.fixture
def outbox(clock: ManualClock) -> ListOutbox:
    return ListOutbox(clock)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def dispatcher(outbox: ListOutbox, queue: EmbeddedQueue, clock: ManualClock, registry: CollectorRegistry) -> Dispatcher:
    return Dispatcher(outbox, queue, clock, registry)


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(dispatcher.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


def queued(queue: EmbeddedQueue) -> list[str]:
    return [message.message_id for message in queue.peek(QUEUE, 100)]


async def test_what_is_in_the_outbox_comes_onto_the_queue_in_order(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue
) -> None:
    for number in range(3):
        outbox.add("s", f"s:{number}")
    assert await dispatcher.run_once() == 3
    assert queued(queue) == ["s:0", "s:1", "s:2"]
    assert outbox.dispatched_ids == [1, 2, 3]


async def test_more_rows_than_one_look_finds_are_all_published(dispatcher: Dispatcher, outbox: ListOutbox) -> None:
    for number in range(2 * PASS_ROWS + 1):
        outbox.add(f"s{number % 3}", f"m{number}")
    assert await dispatcher.run_once() == 2 * PASS_ROWS + 1


async def test_a_row_published_before_a_crash_is_not_on_the_queue_twice(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue, registry: CollectorRegistry
) -> None:
    outbox.add("s", "m")
    await dispatcher.run_once()
    outbox.dispatched_ids.clear()  # as if the mark had not reached the disk
    assert await dispatcher.run_once() == 1
    assert queued(queue) == ["m"]
    assert registry.get_sample_value("crow_receiver_published_messages_total", {"queue": QUEUE}) == 1
    assert registry.get_sample_value("crow_receiver_deduplicated_messages_total", {"queue": QUEUE}) == 1


async def test_a_message_that_cannot_be_published_holds_back_its_own_session_alone(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue
) -> None:
    outbox.add("bad", "bad:0")
    outbox.add("good", "good:0")
    outbox.add("bad", "bad:1", b"x" * (MAX_MESSAGE_BYTES + 1))
    outbox.add("bad", "bad:2")
    outbox.add("good", "good:1")
    assert await dispatcher.run_once() == 3
    assert sorted(queued(queue)) == ["bad:0", "good:0", "good:1"]
    assert [row_id for row_id, _ in outbox.failures] == [3]
    assert await dispatcher.run_once() == 0, "nothing of that session is due"


async def test_a_held_session_goes_on_in_order_once_its_message_can_be_published(
    dispatcher: Dispatcher,
    outbox: ListOutbox,
    queue: EmbeddedQueue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox.add("s", "s:0")
    outbox.add("s", "s:1")
    monkeypatch.setattr(queue, "_max_file_bytes", 0)
    assert await dispatcher.run_once() == 0
    assert "is there a consumer" in outbox.failures[0][1]
    monkeypatch.undo()
    clock.advance(1)
    assert await dispatcher.run_once() == 2
    assert queued(queue) == ["s:0", "s:1"]


async def test_the_wait_between_tries_grows_to_a_minute_and_never_ends(
    dispatcher: Dispatcher, outbox: ListOutbox, clock: ManualClock
) -> None:
    outbox.add("s", "s:0", queue="no such queue")
    waits_s = []
    for _ in range(12):
        await dispatcher.run_once()
        waits_s.append((outbox.not_before_us[1] - clock.now_us()) / 1_000_000)
        clock.advance(waits_s[-1] + 0.001)  # just past it, whatever a float makes of the microseconds
    assert 0.5 <= waits_s[0] <= 1
    assert 2 <= waits_s[2] <= 4
    assert all(MAX_BACKOFF_S / 2 <= wait_s <= MAX_BACKOFF_S for wait_s in waits_s[6:])
    assert len(outbox.failures) == 12


async def test_a_running_dispatcher_is_woken_by_new_rows(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue
) -> None:
    async with running(dispatcher):
        await asyncio.sleep(0)
        outbox.add("s", "m")
        dispatcher.wake()
        await asyncio.wait_for(outbox.emptied.wait(), 5)
    assert queued(queue) == ["m"]


async def test_rows_that_the_last_batches_left_are_published_on_the_way_out(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue
) -> None:
    async with running(dispatcher):
        await asyncio.sleep(0)
        outbox.add("s", "m")  # and nobody wakes it
    assert queued(queue) == ["m"]


async def test_an_outbox_that_does_not_answer_is_asked_again(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue
) -> None:
    outbox.broken = True
    outbox.add("s", "m")
    async with running(dispatcher):
        await asyncio.sleep(0)
        outbox.broken = False
        dispatcher.wake()
        await asyncio.wait_for(outbox.emptied.wait(), 5)
    assert queued(queue) == ["m"]


async def test_gauges_tell_what_waits_in_outbox_and_queue(
    dispatcher: Dispatcher, outbox: ListOutbox, queue: EmbeddedQueue, clock: ManualClock, registry: CollectorRegistry
) -> None:
    registry.register(QueueCollector(queue))
    outbox.add("good", "m")
    outbox.add("bad", "n", queue="no such queue")
    await dispatcher.run_once()
    clock.advance(7)
    assert registry.get_sample_value("crow_receiver_outbox_pending_messages") == 1
    assert registry.get_sample_value("crow_receiver_outbox_oldest_age_seconds") == 5
    assert registry.get_sample_value("crow_receiver_publish_failures_total") == 1
    assert registry.get_sample_value("crow_receiver_queue_messages", {"queue": QUEUE, "state": "ready"}) == 1
    assert registry.get_sample_value("crow_receiver_queue_messages", {"queue": QUEUE, "state": "dead"}) == 0
    assert registry.get_sample_value("crow_receiver_queue_oldest_age_seconds", {"queue": QUEUE}) == 7


def test_a_queue_that_cannot_be_read_leaves_the_other_metrics_standing(
    queue: EmbeddedQueue, registry: CollectorRegistry
) -> None:
    registry.register(QueueCollector(queue))
    Counter("crow_test_events", "Events", registry=registry).inc()
    queue._connection.execute("drop table message")
    text = generate_latest(registry).decode()
    assert "crow_test_events_total 1.0" in text
    assert "crow_receiver_queue_messages" not in text
