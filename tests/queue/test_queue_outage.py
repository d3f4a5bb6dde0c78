"""A queue that is away: nothing lost, nothing doubled, order kept, and it is not hammered while it is down."""

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ManualClock
from prometheus_client import CollectorRegistry
from receiver_parts import store, until

from crow_receiver.queue.dispatch import Dispatcher
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE, Message
from crow_receiver.store import outbox
from crow_receiver.store.outbox import StoredOutbox
from crow_receiver.store.store import Store
from crow_shared.errors import CrowError, Kind

__all__ = ["store"]

DAY_S = 24 * 3600
STEP_S = 60
CAMERAS = 20


class Broker:
    """A queue that can be away, or refuse one session, and keeps what it was given in order."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.away = False
        self.refused_session: str | None = None
        self.tries = 0
        self.published: list[str] = []

    def publish_many(self, messages: Sequence[Message]) -> list[bool]:
        self.tries += 1
        if self.away or any(message.message_id.partition(":")[0] == self.refused_session for message in messages):
            raise CrowError(Kind.UNAVAILABLE, "queue_unavailable", "no broker answers")
        fresh = [message.message_id not in self.published for message in messages]
        self.published += [message.message_id for message, is_fresh in zip(messages, fresh, strict=True) if is_fresh]
        return fresh


async def say(store: Store, session_id: str, number: int, now_us: int) -> None:
    message = Message(INTERACTION_QUEUE, f"{session_id}:interaction:{number}", b'{"n": 1}', {"h": "v"})
    await store.write(lambda tx: outbox.put(tx.db, session_id, message, now_us))


def dispatcher_to(broker: object, store: Store, clock: ManualClock) -> Dispatcher:
    return Dispatcher(StoredOutbox(store), broker, clock, CollectorRegistry())  # type: ignore[arg-type]


async def test_a_broker_that_is_down_for_a_day_loses_nothing_and_doubles_nothing(
    store: Store, clock: ManualClock
) -> None:
    broker = Broker(clock)
    dispatcher = dispatcher_to(broker, store, clock)
    expected: dict[str, list[str]] = defaultdict(list)
    broker.away = True
    for minute in range(0, DAY_S, STEP_S):
        session = f"camera{minute // STEP_S % CAMERAS}.hour{minute // 3600}"
        await say(store, session, len(expected[session]), clock.now_us())
        expected[session].append(f"{session}:interaction:{len(expected[session])}")
        for _ in range(3):
            await dispatcher.run_once()
            clock.advance(STEP_S / 3)
    assert broker.published == []
    assert broker.tries < 2 * DAY_S / STEP_S + 100, "a queue that is down is asked about once a minute"
    broker.away = False
    clock.advance(60)
    await dispatcher.run_once()
    clock.advance(60)  # for the last probes' rows
    await dispatcher.run_once()
    came = defaultdict(list)
    for message_id in broker.published:
        came[message_id.partition(":")[0]].append(message_id)
    assert came == expected
    assert max(Counter(broker.published).values()) == 1
    assert (await store.read(outbox.waiting)).pending == 0


async def test_one_session_whose_messages_are_refused_holds_back_no_other(store: Store, clock: ManualClock) -> None:
    broker = Broker(clock)
    dispatcher = dispatcher_to(broker, store, clock)
    broker.refused_session = "bad"
    for step in range(30):
        await say(store, "bad", step, clock.now_us())
        for _ in range(4):
            await dispatcher.run_once()
            clock.advance(20)
        await say(store, "good", step, clock.now_us())
        await dispatcher.run_once()
        assert broker.published[-1] == f"good:interaction:{step}"


async def test_a_clock_that_is_set_back_does_not_hold_a_message_for_longer_than_a_wait(
    store: Store, clock: ManualClock
) -> None:
    broker = Broker(clock)
    dispatcher = dispatcher_to(broker, store, clock)
    broker.away = True
    await say(store, "s", 0, clock.now_us())
    await dispatcher.run_once()
    broker.away = False
    clock.jump(-3600)
    assert await dispatcher.run_once() == 1


async def test_what_was_dispatched_stays_as_evidence_without_its_text(store: Store, clock: ManualClock) -> None:
    broker = Broker(clock)
    await say(store, "s", 0, clock.now_us())
    await dispatcher_to(broker, store, clock).run_once()
    rows = await store.read(
        lambda db: db.execute(
            "select message_id, dispatched_us, body from outbox left join outbox_content using (id)"
        ).fetchall()
    )
    assert rows == [("s:interaction:0", clock.now_us(), None)]
    await say(store, "s", 0, clock.now_us())  # a replay after a crash
    assert (await store.read(outbox.waiting)).pending == 0


async def test_a_hundred_thousand_dispatched_rows_do_not_slow_the_dispatcher(store: Store, clock: ManualClock) -> None:
    def fill(count: int) -> None:
        store._transaction.db.execute(
            """with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)
               insert into outbox (queue, message_id, session_id, created_us, dispatched_us)
               select 'q', 'old' || (i % 50) || ':' || i, 'old' || (i % 50), 1, 2 from n""",
            (count,),
        )

    await store.write(lambda _: fill(100_000))
    for number in range(50):
        await say(store, f"old{number}", 10**6, clock.now_us())
    looked_at = 0

    def step() -> int:
        nonlocal looked_at
        looked_at += 1
        return 0

    store._reading.set_progress_handler(step, 1000)  # virtual machine steps: no clock that a busy machine could upset
    assert len(await StoredOutbox(store).due(clock.now_us(), 256)) == 50
    assert (await StoredOutbox(store).backlog()).pending == 50
    assert looked_at < 20


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "db.execute('begin immediate'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == b"locked\n"
        yield
        holder.stdin.close()


async def test_messages_wait_while_another_process_holds_the_queues_file(
    store: Store, queue: EmbeddedQueue, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crow_receiver.queue.dispatch.IDLE_S", 0.05)
    queue._connection.execute("pragma busy_timeout = 50")
    dispatcher = dispatcher_to(queue, store, clock)
    stop = asyncio.Event()
    task = asyncio.create_task(dispatcher.run(stop))
    with locked_by_another_process(path):
        for number in range(30):
            await say(store, f"s{number % 3}", number, clock.now_us())
            dispatcher.wake()
        await until(lambda: dispatcher._down)
        assert (await store.read(outbox.waiting)).pending == 30

    def depth() -> int:
        clock.advance(1)
        return queue.depths()[0].ready

    await until(lambda: depth() == 30)
    stop.set()
    await task
    numbers = [int(message.message_id.rpartition(":")[2]) for message in queue.peek(INTERACTION_QUEUE, 100)]
    assert sorted(numbers) == list(range(30))
    for session in range(3):
        assert [n for n in numbers if n % 3 == session] == list(range(session, 30, 3))
