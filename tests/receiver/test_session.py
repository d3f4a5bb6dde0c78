"""A session's actor: outcomes become batches and windows, once; the session ends, and says so."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import ManualClock
from receiver_parts import (
    GAP_S,
    HOUR_US,
    LIMITS,
    SECOND_US,
    Receiver,
    ScriptedVision,
    analysis,
    known_camera,
    put,
    until,
)

from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE
from crow_receiver.session.actor import SETTLE_S
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import Outcome
from crow_receiver.store import frames, sessions
from crow_receiver.store.store import Store
from crow_shared.errors import CrowError, Kind


@pytest.fixture
def vision() -> ScriptedVision:
    return ScriptedVision()


@pytest.fixture
async def receiver(store: Store, clock: ManualClock, vision: ScriptedVision) -> AsyncIterator[Receiver]:
    made = Receiver(store, clock, vision)
    await made.start()
    yield made
    await made.stop()


async def batches(receiver: Receiver, count: int) -> list[dict[str, object]]:
    async with asyncio.timeout(10):
        while len(found := await receiver.messages(INTERACTION_QUEUE)) < count:
            await asyncio.sleep(0.01)
    return found


async def test_ten_analyses_make_a_batch(receiver: Receiver) -> None:
    for seq in range(1, 13):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US)
    (batch,) = await batches(receiver, 1)
    assert [frame["frameIndex"] for frame in batch["frameAnalyses"]] == list(range(10))  # type: ignore[attr-defined]
    assert (batch["batchIndex"], batch["late"]) == (0, False)
    assert batch["messageId"] == f"{batch['sessionId']}:interaction:0"


async def test_a_batch_waits_no_longer_than_its_age(receiver: Receiver) -> None:
    await receiver.frame(1, HOUR_US)
    await until(lambda: receiver.vision.seen)
    receiver.clock.advance(29)
    await asyncio.sleep(0.7)
    assert await receiver.messages(INTERACTION_QUEUE) == []
    receiver.clock.advance(2)
    (batch,) = await batches(receiver, 1)
    assert len(batch["frameAnalyses"]) == 1  # type: ignore[arg-type]


async def test_a_silence_ends_the_session_with_what_is_left(receiver: Receiver) -> None:
    for seq in range(1, 13):
        session_id = await receiver.frame(seq, HOUR_US + seq * 10 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 12)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    first, last = await receiver.messages(INTERACTION_QUEUE)
    assert [first["batchIndex"], last["batchIndex"]] == [0, 1]
    patterns = await receiver.messages(PATTERN_QUEUE)
    assert [pattern["kind"] for pattern in patterns] == ["window", "window", "window", "session"]
    assert sum(pattern["frames"]["analysed"] for pattern in patterns[:3]) == 12  # type: ignore[index]
    assert (patterns[-1]["frames"], patterns[-1]["batches"]) == ({"analysed": 12, "failed": 0}, 2)
    row = await receiver.store.read(lambda db: sessions.find_session(db, session_id))
    assert row is not None
    assert not row.is_open


async def test_a_new_hour_ends_the_session_before_it(receiver: Receiver) -> None:
    before = await receiver.frame(1, HOUR_US - SECOND_US)
    after = await receiver.frame(2, HOUR_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(SETTLE_S + 1)
    await until(lambda: receiver.directory.open_sessions == 1)
    states = [await receiver.store.read(lambda db, s=s: sessions.find_session(db, s)) for s in (before, after)]
    assert [state.is_open for state in states if state] == [False, True]


async def test_a_minute_is_told_of_once_it_is_over_and_has_come_to_rest(receiver: Receiver) -> None:
    for seq in range(1, 4):
        await receiver.frame(seq, HOUR_US + (seq - 1) * 30 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 3)
    await asyncio.sleep(0.7)
    assert await receiver.messages(PATTERN_QUEUE) == []
    receiver.clock.advance(10)
    async with asyncio.timeout(10):
        while not (patterns := await receiver.messages(PATTERN_QUEUE)):
            await asyncio.sleep(0.01)
    (window,) = patterns
    assert (window["windowStart"], window["windowEnd"]) == (HOUR_US // 1000, HOUR_US // 1000 + 60_000)
    assert window["frames"] == {"analysed": 2, "failed": 0}


async def test_a_late_frame_opens_the_session_again_and_leads_to_a_numbered_revision(receiver: Receiver) -> None:
    for seq in range(1, 3):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    await receiver.frame(3, HOUR_US + 30 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 3)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    on_time, late = await receiver.messages(INTERACTION_QUEUE)
    assert (on_time["late"], late["late"], late["batchIndex"]) == (False, True, 1)
    patterns = await receiver.messages(PATTERN_QUEUE)
    assert [(p["kind"], p["revision"]) for p in patterns] == [
        ("window", 0), ("session", 0), ("window", 1), ("session", 1)
    ]  # fmt: skip
    assert patterns[-1]["frames"] == {"analysed": 3, "failed": 0}
    assert len({p["messageId"] for p in patterns}) == 4


async def test_a_frame_that_cannot_be_described_is_recorded_with_the_reason(receiver: Receiver) -> None:
    def refuse(_: object) -> object:
        raise CrowError(Kind.CORRUPT, "picture_corrupt", "no picture")

    receiver.vision.answer = refuse  # type: ignore[assignment]
    session_id = await receiver.frame(1, HOUR_US)
    await until(lambda: receiver.vision.seen)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    row = await receiver.store.read(lambda db: sessions.find_session(db, session_id))
    failure = await receiver.store.read(lambda db: db.execute("select failure from frame").fetchone()[0])
    assert row is not None
    assert (row.analysed, row.failed) == (0, 1)
    assert failure == "picture_corrupt: no picture"
    assert await receiver.messages(INTERACTION_QUEUE) == []


async def test_a_frame_that_kills_the_worker_is_set_aside_after_three_tries(receiver: Receiver) -> None:
    def answer(request: object) -> object:
        if request.capture_us == HOUR_US:  # type: ignore[attr-defined]
            raise CrowError(Kind.UNAVAILABLE, "worker_died", "signal 11")
        return analysis()

    receiver.vision.answer = answer  # type: ignore[assignment]
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + SECOND_US)
    for tries in range(1, 4):
        await until(lambda n=tries: receiver.vision.seen.count(("acme/shop/till", HOUR_US)) == n)  # type: ignore[misc]
        receiver.clock.advance(10)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    rows = await receiver.store.read(lambda db: db.execute("select state, failure from frame order by id").fetchall())
    assert rows == [("failed", "worker_died: signal 11 (3 tries)"), ("analysed", None)]


async def test_a_frame_is_not_to_blame_for_a_missing_worker(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crow_receiver.vision.schedule.RETRY_FIRST_S", 0.01)
    tries = 0

    def answer(_: object) -> object:
        nonlocal tries
        tries += 1
        if tries <= 4:
            raise CrowError(Kind.UNAVAILABLE, "no_worker", "no vision worker was free")
        return analysis()

    receiver.vision.answer = answer  # type: ignore[assignment]
    await receiver.frame(1, HOUR_US)
    await until(lambda: tries == 5)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    rows = await receiver.store.read(lambda db: db.execute("select state, attempts from frame").fetchall())
    assert rows == [("analysed", 0)]


async def test_a_restart_goes_on_where_the_last_commit_left_off(
    store: Store, clock: ManualClock, vision: ScriptedVision, tmp_path: Path
) -> None:
    first = Receiver(store, clock, vision)
    await first.start()
    for seq in range(1, 8):
        await first.frame(seq, HOUR_US + seq * SECOND_US)
    await until(lambda: len(vision.seen) == 7)
    await first.stop()
    store.close()
    again = Store(tmp_path / "receiver")
    second = Receiver(again, clock, vision)
    await second.start()
    for seq in range(8, 11):
        await second.frame(seq, HOUR_US + seq * SECOND_US)
    (batch,) = await batches(second, 1)
    assert [frame["frameIndex"] for frame in batch["frameAnalyses"]] == list(range(10))  # type: ignore[attr-defined]
    clock.advance(GAP_S)
    await second.closed()
    summary = (await second.messages(PATTERN_QUEUE))[-1]
    assert summary["frames"] == {"analysed": 10, "failed": 0}
    await second.stop()
    again.close()


async def test_two_engines_never_share_a_batch(receiver: Receiver) -> None:
    def answer(request: object) -> object:
        early = request.capture_us < HOUR_US + 5 * SECOND_US  # type: ignore[attr-defined]
        return analysis(engine="llama" if early else "classic")

    receiver.vision.answer = answer  # type: ignore[assignment]
    for seq in range(10):
        await receiver.frame(seq + 1, HOUR_US + seq * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 10)
    receiver.clock.advance(GAP_S)
    await receiver.closed()
    found = await receiver.messages(INTERACTION_QUEUE)
    assert [(b["engine"]["name"], len(b["frameAnalyses"])) for b in found] == [("llama", 5), ("classic", 5)]  # type: ignore[index, arg-type]


async def test_a_frame_that_is_late_by_hours_does_not_end_the_session_of_now(receiver: Receiver) -> None:
    now = await receiver.frame(1, HOUR_US)
    await until(lambda: len(receiver.vision.seen) == 1)
    await receiver.frame(2, HOUR_US - 7200 * SECOND_US)
    await until(lambda: len(receiver.vision.seen) == 2)
    receiver.clock.advance(SETTLE_S + 1)  # enough for a session that a later one has followed
    await asyncio.sleep(0.7)
    row = await receiver.store.read(lambda db: sessions.find_session(db, now))
    assert row is not None
    assert row.is_open


async def test_one_who_gives_up_waiting_for_an_outcome_does_not_end_the_session(
    store: Store, clock: ManualClock
) -> None:
    directory = SessionDirectory(store, clock, LIMITS, GAP_S, lambda: None, lambda: None)
    camera = await known_camera(store)
    stored = await put(store, camera, 1, HOUR_US)
    directory.stored(camera, stored)
    (frame,) = await store.read(lambda db: frames.next_frames(db, HOUR_US))
    release = threading.Event()
    blocked = asyncio.create_task(store.write(lambda _: release.wait()))
    telling = asyncio.create_task(directory.finished(camera.id, stored.session_id, Outcome(frame, analysis())))
    await asyncio.sleep(0.1)  # the actor now waits for the store
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    release.set()
    await blocked
    async with asyncio.timeout(5):
        while await store.read(lambda db: frames.next_frames(db, HOUR_US)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not directory.failed.done()
    assert directory.open_sessions == 1
    await directory.stop()


async def test_a_session_that_is_stopped_answers_whoever_waits(store: Store, clock: ManualClock) -> None:
    directory = SessionDirectory(store, clock, LIMITS, GAP_S, lambda: None, lambda: None)
    camera = await known_camera(store)
    stored = await put(store, camera, 1, HOUR_US)
    (frame,) = await store.read(lambda db: frames.next_frames(db, HOUR_US))
    release = threading.Event()
    blocked = asyncio.create_task(store.write(lambda _: release.wait()))
    telling = asyncio.create_task(directory.finished(camera.id, stored.session_id, Outcome(frame, analysis())))
    await asyncio.sleep(0.1)  # the actor now waits for the store
    await directory.stop()
    with pytest.raises(CrowError) as caught:
        await asyncio.wait_for(telling, 5)
    assert caught.value.code == "session_stopped"
    release.set()
    await blocked


async def test_sessions_that_end_together_close_one_after_the_other(receiver: Receiver) -> None:
    for camera_id in ("till", "door", "aisle"):
        await receiver.frame(1, HOUR_US, camera_id)
    await until(lambda: len(receiver.vision.seen) == 3)
    receiver.clock.advance(LIMITS.age_s)
    await batches(receiver, 3)
    release = threading.Event()
    blocked = asyncio.create_task(receiver.store.write(lambda _: release.wait()))
    receiver.clock.advance(GAP_S)
    await asyncio.sleep(0.7)
    waiting = receiver.store._jobs.qsize()
    release.set()
    await blocked
    assert waiting == 1
    await receiver.closed()


async def test_a_session_that_is_stopped_as_a_message_comes_ends(store: Store, clock: ManualClock) -> None:
    directory = SessionDirectory(store, clock, LIMITS, GAP_S, lambda: None, lambda: None)
    camera = await known_camera(store)
    stored = await put(store, camera, 1, HOUR_US)
    directory.stored(camera, stored)
    await asyncio.sleep(0.1)  # the actor waits for messages
    directory.stored(camera, stored)
    await asyncio.sleep(0)  # the message is on its way to it
    await asyncio.wait_for(directory.stop(), 5)
    assert directory.open_sessions == 0
