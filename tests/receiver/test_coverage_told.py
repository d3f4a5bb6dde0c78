"""Messages say how many samples were due and what became of them; when more is known, they are told again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from conftest import ManualClock
from receiver_parts import GAP_S, HOUR_US, SECOND_US, Receiver, ScriptedVision, analysis, known_camera, until

from crow_receiver.ingest.intake import Intake
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE
from crow_receiver.session.actor import SETTLE_S
from crow_receiver.store.ledger import MINUTE_US, LedgerMinute
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Activity, Analysis, Movement, Person, Role


@pytest.fixture
async def receiver(store: Store, clock: ManualClock) -> AsyncIterator[Receiver]:
    made = Receiver(store, clock, ScriptedVision(one_customer))
    await made.start()
    yield made
    await made.stop()


def one_customer(_: VisionRequest) -> Analysis:
    seen = analysis("A customer at the till.")
    person = Person(
        role=Role.CUSTOMER, zone="Till", activity=Activity.STANDING, movement=Movement.STILL, confidence=0.5
    )
    return seen.model_copy(update={"scene": seen.scene.model_copy(update={"people": [person]})})


async def tell(receiver: Receiver, number: int, revision: int = 1, **changes: object) -> None:
    """The ledger of the hour's minute of that number."""
    counts: dict[str, object] = {"sent": 1, "gated": {"no_activity": 50}, "dropped": {"camera_down": 9}} | changes
    expected = counts["sent"] + sum(counts["gated"].values()) + sum(counts["dropped"].values())  # type: ignore[attr-defined,operator]
    minute = LedgerMinute(HOUR_US + number * MINUTE_US, revision, expected, alerts=[], **counts)  # type: ignore[arg-type]
    await known_camera(receiver.store)
    intake = Intake(receiver.store, receiver.directory, receiver.clock, int(GAP_S * SECOND_US))
    await intake.store_ledger("acme", "shop", {"till": [minute]})


async def patterns(receiver: Receiver, count: int) -> list[dict[str, object]]:
    async with asyncio.timeout(10):
        while len(found := await receiver.messages(PATTERN_QUEUE)) < count:
            await asyncio.sleep(0.01)
    return found


async def test_a_window_a_batch_and_a_session_say_what_became_of_their_samples(receiver: Receiver) -> None:
    await tell(receiver, 0)
    await receiver.frame(1, HOUR_US + 5 * SECOND_US)
    await receiver.frame(2, HOUR_US + 65 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    (batch,) = await receiver.messages(INTERACTION_QUEUE)
    known, unknown, summary = await patterns(receiver, 3)
    said = {"expected": 60, "sent": 1, "gated": {"no_activity": 50}, "dropped": {"camera_down": 9}, "alerts": []}
    as_of = {"asOf": receiver.clock.now_us() // 1000}
    nothing = {"expected": 0, "sent": 0, "gated": {}, "dropped": {}, "alerts": []}
    assert known["coverage"] == said | {"known": True, "minutes": 1, "knownMinutes": 1} | as_of
    assert unknown["coverage"] == nothing | {"known": False, "minutes": 1, "knownMinutes": 0} | as_of
    assert batch["coverage"] == summary["coverage"] == said | {"known": False, "minutes": 2, "knownMinutes": 1} | as_of


async def test_a_window_whose_ledger_comes_later_is_told_again_and_comes_to_rest(receiver: Receiver) -> None:
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + 70 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(10)
    (first,) = await patterns(receiver, 1)
    assert (first["revision"], first["coverage"]["known"]) == (0, False)  # type: ignore[index]
    for revision in range(1, 6):
        await tell(receiver, 0, revision, dropped={"camera_down": revision})
        await tell(receiver, 0, revision, dropped={"camera_down": revision})  # once more, which is no news
        receiver.clock.advance(3)
    await asyncio.sleep(0.7)
    assert len(await receiver.messages(PATTERN_QUEUE)) == 1, "it rests first"
    receiver.clock.advance(20)
    _, second = await patterns(receiver, 2)
    assert (second["revision"], second["coverage"]["dropped"]) == (1, {"camera_down": 5})  # type: ignore[index]
    receiver.clock.advance(100)
    await asyncio.sleep(0.7)
    assert len(await receiver.messages(PATTERN_QUEUE)) == 2


async def test_news_of_samples_puts_off_no_window_that_is_about_to_be_told(receiver: Receiver) -> None:
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + 70 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    await asyncio.sleep(0.1)
    receiver.clock.advance(9)
    await tell(receiver, 0)
    receiver.clock.advance(1)
    (window,) = await patterns(receiver, 1)
    assert (window["revision"], window["coverage"]["known"]) == (0, True)  # type: ignore[index]


async def test_a_session_that_had_closed_is_told_again_once_however_many_minutes_come_late(receiver: Receiver) -> None:
    for number in range(3):
        await receiver.frame(number + 1, HOUR_US + number * MINUTE_US)
    await until(lambda: len(receiver.vision.seen) == 3)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    before = len(await receiver.messages(PATTERN_QUEUE))
    for number in range(3):
        await tell(receiver, number)
        receiver.clock.advance(SETTLE_S)
        await asyncio.sleep(0.6)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    again = (await receiver.messages(PATTERN_QUEUE))[before:]
    assert sorted((str(body["kind"]), body["revision"]) for body in again) == [
        ("session", 1),
        ("window", 1),
        ("window", 1),
        ("window", 1),
    ]
    assert all(body["coverage"]["known"] for body in again)  # type: ignore[index]


async def test_minutes_beyond_a_session_or_without_news_leave_it_closed(receiver: Receiver) -> None:
    await tell(receiver, 0)
    await receiver.frame(1, HOUR_US)
    await until(lambda: len(receiver.vision.seen) == 1)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    await tell(receiver, 0, 2)
    await tell(receiver, 1)
    await tell(receiver, -1)
    assert receiver.directory.open_sessions == 0


async def test_a_minute_of_a_session_without_a_frame_counts_in_its_summary(receiver: Receiver) -> None:
    for number in range(3):
        await tell(receiver, number)
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + 2 * MINUTE_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    summary = (await receiver.messages(PATTERN_QUEUE))[-1]
    assert summary["coverage"]["minutes"] == 3  # type: ignore[index]
    assert summary["coverage"]["expected"] == 180  # type: ignore[index]


async def test_people_count_for_the_samples_that_were_left_out_because_the_receiver_was_behind(
    receiver: Receiver,
) -> None:
    await tell(receiver, 0, sent=10, gated={"no_activity": 10}, dropped={"degraded": 40, "camera_down": 5})
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + MINUTE_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    degraded, usual, summary = await patterns(receiver, 3)
    seconds = [body["people"]["personSeconds"] for body in (degraded, usual, summary)]  # type: ignore[index]
    assert seconds == [3.0, 1.0, 4.0], "one of three samples was taken in the first minute"
