"""Capture times as they come: boundaries, the clocks' change, a night offline, cameras whose clock jumps."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time
from itertools import pairwise
from zoneinfo import ZoneInfo

import grpc
import pytest
from conftest import ManualClock
from ingest_parts import Server, hello, sent
from receiver_parts import GAP_US, HOUR_US, SECOND_US, Receiver, ScriptedVision, known_camera, put, until

from crow.cctv.v1 import ingest_pb2_grpc
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE
from crow_receiver.session import actor
from crow_receiver.session.actor import SETTLE_S
from crow_receiver.store.store import Store

HOUR_S = 3600


@pytest.fixture
async def receiver(store: Store, clock: ManualClock) -> AsyncIterator[Receiver]:
    made = Receiver(store, clock, ScriptedVision())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def _quick_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "TICK_S", 0.005)


async def spans(store: Store) -> list[tuple[int, int, int]]:
    """First and last capture and the frames of each session, in seconds after 8 o'clock."""
    rows = await store.read(
        lambda db: db.execute("select first_capture_us, last_capture_us, frames from session order by 1").fetchall()
    )
    return [((first - HOUR_US) // SECOND_US, (last - HOUR_US) // SECOND_US, count) for first, last, count in rows]


async def arrive(receiver: Receiver, first_seq: int, seconds: list[int], *, late: bool = False) -> int:
    for seq, second in enumerate(seconds, first_seq):
        await receiver.frame(seq, HOUR_US + second * SECOND_US, late=late)
    await until(lambda: len(receiver.vision.seen) == first_seq + len(seconds) - 1)
    return first_seq + len(seconds)


@pytest.mark.parametrize(("offset_us", "same"), [(-1, False), (0, True), (1, True)])
async def test_the_hour_begins_with_its_first_microsecond(store: Store, offset_us: int, same: bool) -> None:
    camera = await known_camera(store)
    first = await put(store, camera, 1, HOUR_US + offset_us)
    second = await put(store, camera, 2, HOUR_US + 2)
    assert (first.session_id == second.session_id) is same


@pytest.mark.parametrize("side", [1, -1], ids=["later", "earlier"])
@pytest.mark.parametrize(("beyond_us", "same"), [(0, True), (1, False)])
async def test_the_gap_is_a_gap_beyond_its_last_microsecond(
    store: Store, side: int, beyond_us: int, same: bool
) -> None:
    camera = await known_camera(store)
    middle_us = HOUR_US + 1800 * SECOND_US
    first = await put(store, camera, 1, middle_us)
    second = await put(store, camera, 2, middle_us + side * (GAP_US + beyond_us))
    assert (first.session_id == second.session_id) is same


@pytest.mark.parametrize("night", [date(2027, 3, 28), date(2027, 10, 31)], ids=["spring", "autumn"])
async def test_the_change_of_the_clocks_leaves_no_hole_and_doubles_no_hour(store: Store, night: date) -> None:
    """From 0 to 6 o'clock in Zurich, a frame a minute: 5 or 7 hours, each of them one session."""
    zurich = ZoneInfo("Europe/Zurich")
    start, end = (datetime.combine(night, time(hour), zurich).astimezone(UTC) for hour in (0, 6))
    minutes = int((end - start).total_seconds()) // 60
    camera = await known_camera(store)
    for minute in range(minutes):
        await put(store, camera, minute + 1, (int(start.timestamp()) + minute * 60) * SECOND_US)
    rows = await store.read(lambda db: db.execute("select hour_us, frames from session order by 1").fetchall())
    assert len(rows) == minutes // 60 == (5 if night.month == 3 else 7)
    assert {frames for _, frames in rows} == {60}
    assert {later - earlier for (earlier, _), (later, _) in pairwise(rows)} == {HOUR_S * SECOND_US}


async def test_a_daemon_back_after_a_night_fills_the_hours_in_order_with_one_revision_each(receiver: Receiver) -> None:
    evening = [*range(0, 1200, 100)]
    seq = await arrive(receiver, 1, evening)
    receiver.clock.advance(9 * HOUR_S)
    await receiver.closed()
    morning = [9 * HOUR_S + second for second in range(0, 300, 100)]
    seq = await arrive(receiver, seq, morning)
    night = [*range(1200, 9 * HOUR_S, 100)]
    seq = await arrive(receiver, seq, night, late=True)
    receiver.clock.advance(GAP_US / SECOND_US)
    await receiver.closed()
    summaries = [body for body in await receiver.messages(PATTERN_QUEUE) if body["kind"] == "session"]
    ids = [str(body["sessionId"]) for body in summaries]
    assert [body["revision"] for body in summaries if body["sessionId"] == ids[0]] == [0, 1]
    assert len(ids) == len(set(ids)) + 1 == 11
    latest = {body["sessionId"]: body["frames"]["analysed"] for body in summaries}  # type: ignore[index]
    assert sum(latest.values()) == seq - 1
    late = {str(b["sessionId"]): b["late"] for b in await receiver.messages(INTERACTION_QUEUE)}
    assert [session for session, is_late in late.items() if is_late] == [ids[0]]


async def test_a_backlog_that_comes_in_bursts_does_not_close_its_session_after_each(receiver: Receiver) -> None:
    seq = await arrive(receiver, 1, [0])
    receiver.clock.advance(GAP_US / SECOND_US)
    await receiver.closed()
    seq = await arrive(receiver, seq, [100], late=True)
    seq = await arrive(receiver, seq, [2 * HOUR_S])
    for burst in range(5):
        seq = await arrive(receiver, seq, [110 + burst], late=True)
        receiver.clock.advance(2 * SETTLE_S)
        await asyncio.sleep(0.05)
    receiver.clock.advance(GAP_US / SECOND_US)
    await receiver.closed()
    summaries = [body for body in await receiver.messages(PATTERN_QUEUE) if body["kind"] == "session"]
    assert [body["revision"] for body in summaries if body["sessionId"] == summaries[0]["sessionId"]] == [0, 1]


async def test_a_minute_that_a_backlog_fills_slowly_is_told_of_a_few_times_not_for_each_frame(
    receiver: Receiver,
) -> None:
    seq = await arrive(receiver, 1, [0, 200])
    for second in range(60, 120):
        seq = await arrive(receiver, seq, [second], late=True)
        receiver.clock.advance(15)
        if second % 10 == 0:
            await asyncio.sleep(0.05)
    receiver.clock.advance(GAP_US / SECOND_US)
    await receiver.closed()
    windows = [b for b in await receiver.messages(PATTERN_QUEUE) if b["windowStart"] == HOUR_US // 1000 + 60_000]
    assert windows[-1]["frames"] == {"analysed": 60, "failed": 0}
    assert len(windows) <= 6


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_a_camera_whose_clock_jumps_for_a_while_leaves_each_frame_in_one_session(
    store: Store, jump_s: int
) -> None:
    camera = await known_camera(store)
    seconds = [*range(0, 100, 10), *(jump_s + second for second in range(100, 200, 10)), *range(200, 300, 10)]
    for seq, second in enumerate(seconds, 1):
        await put(store, camera, seq, HOUR_US + second * SECOND_US)
    jumped = (100 + jump_s, 190 + jump_s, 10)
    assert await spans(store) == sorted([(0, 290, 20), jumped])
    for seq, second in enumerate(range(HOUR_S, HOUR_S + 300, 10), len(seconds) + 1):
        await put(store, camera, seq, HOUR_US + second * SECOND_US)
    found = await spans(store)
    assert sum(count for _, _, count in found) == 60
    assert all(last < first for (_, last, _), (first, _, _) in pairwise(found))


async def test_frames_more_than_a_day_ahead_are_refused_and_counted(server: Server) -> None:
    ahead = sent(2)
    ahead.frames.frames[0].capture_time_us += 86_400 * SECOND_US + 60 * SECOND_US
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        requests = [hello(), sent(1), ahead, sent(3)]
        answers = [a async for a in ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames(iter(requests))]
    assert [answer.reject.seq for answer in answers if answer.HasField("reject")] == [2]
    assert await server.stored() == [("till", 1), ("till", 3)]
    missing = await server.store.read(lambda db: db.execute("select from_seq, to_seq, reason from missing").fetchall())
    assert missing == [(2, 2, "bad_time")]


async def test_a_window_does_not_wait_for_hours_after_the_receivers_clock_was_set_back(receiver: Receiver) -> None:
    await arrive(receiver, 1, [0, 30, 60])
    receiver.clock.jump(-HOUR_S)
    receiver.clock.advance(1)
    async with asyncio.timeout(5):
        while not await receiver.messages(PATTERN_QUEUE) or not await receiver.messages(INTERACTION_QUEUE):
            await asyncio.sleep(0.05)
