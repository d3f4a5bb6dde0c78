"""What was erased is nowhere that the receiver reaches; what it cannot reach is told; and the audit still holds."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ManualClock
from receiver_parts import GAP_US, HOUR_US, PICTURE, SECOND_US, ScriptedVision, analysis, frame_at, put, until

from crow_receiver.cli.main import main
from crow_receiver.erasure import Eraser
from crow_receiver.ingest.intake import Intake
from crow_receiver.queue.embedded import MAX_DELIVERIES
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import BatchLimits, Outcome
from crow_receiver.store import cameras, erasures, frames, outbox
from crow_receiver.store.arrivals import StoredFrame
from crow_receiver.store.cameras import CameraRow
from crow_receiver.vision.schedule import AnalysisScheduler
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

SESSION = "acme.shop.till.20270115T080005000Z"
# Frames 8 to 15 of 25, one every 5 s: 8 failed, 9 and 10 are in a message that was taken, 11 to 15 in one on the queue.
FROM_US, TO_US = HOUR_US + 40 * SECOND_US, HOUR_US + 80 * SECOND_US


class NobodyHears:
    def stored(self, camera: CameraRow, stored: StoredFrame) -> None:
        pass

    def covered(self, camera: CameraRow, session_ids: Sequence[str]) -> None:
        pass


async def camera_of(state: Any) -> CameraRow:
    found = await state.store.read(lambda db: cameras.find(db, CameraKey("acme", "shop", "till")))
    assert found is not None
    return found  # type: ignore[no-any-return]


async def request(state: Any, from_us: int = FROM_US, to_us: int = TO_US) -> str:
    camera = await camera_of(state)
    asked: str = await state.store.write(
        lambda tx: erasures.request(tx.db, camera.id, from_us, to_us, "asked to", state.clock.now_us())
    )
    return asked


async def receipt_of(state: Any, erasure_id: str) -> dict[str, Any]:
    text = (await state.store.read(lambda db: erasures.by_id(db, erasure_id))).receipt
    assert text is not None, "not done"
    receipt: dict[str, Any] = json.loads(text)
    return receipt


def eraser_of(state: Any, directory: SessionDirectory | None = None) -> Eraser:
    return Eraser(state.store, state.queue, state.clock, directory, state.dispatcher.publishing)


async def erased(state: Any, from_us: int = FROM_US, to_us: int = TO_US) -> dict[str, Any]:
    erasure_id = await request(state, from_us, to_us)
    await eraser_of(state).run_once()
    return await receipt_of(state, erasure_id)


def on_disk(state: Any, words: bytes) -> list[str]:
    """The files in which these words still are."""
    return [path.name for path in state.directory.rglob("*") if path.is_file() and words in path.read_bytes()]


def told_frames(state: Any) -> list[list[int]]:
    bodies = [json.loads(message.body) for message in state.queue.peek(INTERACTION_QUEUE, 100)]
    return [[frame["frameIndex"] for frame in body["frameAnalyses"]] for body in bodies]


async def test_pictures_analyses_and_failures_are_gone_from_every_file_and_their_neighbours_stay(state: Any) -> None:
    gone = [f"Seen at {HOUR_US + seq * 5 * SECOND_US}.".encode() for seq in range(9, 16)]
    assert on_disk(state, gone[3])
    pictures = sum(path.read_bytes().count(PICTURE) for path in (state.directory / "pictures").iterdir())
    receipt = await erased(state)
    for words in [*gone, b"no picture"]:
        assert on_disk(state, words) == []
    assert on_disk(state, f"Seen at {HOUR_US + 16 * 5 * SECOND_US}.".encode())
    left = sum(path.read_bytes().count(PICTURE) for path in (state.directory / "pictures").iterdir())
    assert pictures - left == 8
    assert {key: receipt[key] for key in ("frames", "pictures", "analyses")} == {
        "frames": 8, "pictures": 8, "analyses": 7,
    }  # fmt: skip


async def test_what_is_left_of_an_erased_frame_are_its_numbers_and_times(state: Any) -> None:
    await erased(state)
    rows = await state.store.read(
        lambda db: db.execute(
            """select seq, frame_index, capture_us, segment, "offset", length, crc32, width, failure from frame
               where state = 'erased'"""
        ).fetchall()
    )
    assert rows == [(seq, seq - 1, HOUR_US + seq * 5 * SECOND_US, None, 0, 0, 0, 0, None) for seq in range(8, 16)]


async def test_the_audit_holds_before_and_after_the_sessions_have_closed_again(state: Any) -> None:
    await erased(state)
    assert state.audit().faults == []
    await state.close(SESSION)
    await state.dispatcher.run_once()
    report = state.audit()
    assert report.faults == []
    (camera,) = report.as_json()["cameras"]
    assert (camera["told"], camera["failed"], camera["erased"], camera["numbers"]) == (17, 0, 8, 33)


async def test_an_erasure_while_the_audit_reads_is_no_fault(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message is rebuilt and one withdrawn between its look at the database and its look at the queue."""
    erasure_id = await request(state, HOUR_US + 100 * SECOND_US, HOUR_US + 200 * SECOND_US)
    loop, traced = asyncio.get_running_loop(), state.queue.trace

    async def changed() -> None:
        # Its log cannot be emptied while the audit reads: the erasure is done after it.
        with pytest.raises(CrowError, match="another process reads"):
            await eraser_of(state).run_once()

    def trace(queue: str, message_ids: list[str]) -> dict[str, Any]:
        if queue == INTERACTION_QUEUE:
            asyncio.run_coroutine_threadsafe(changed(), loop).result(20)
        found: dict[str, Any] = traced(queue, message_ids)
        return found

    monkeypatch.setattr(state.queue, "trace", trace)
    report = await asyncio.to_thread(state.audit)
    assert report.faults == []
    monkeypatch.undo()
    await eraser_of(state).run_once()
    assert (await receipt_of(state, erasure_id))["messages_withdrawn"] == 1
    assert state.audit().faults == []


async def test_a_message_keeps_its_other_frames_and_its_name_and_one_without_any_is_withdrawn(state: Any) -> None:
    before = told_frames(state)
    receipt = await erased(state)
    assert before == [[*range(11, 21)], [*range(21, 25)]]
    assert told_frames(state) == [[*range(15, 21)], [*range(21, 25)]]
    body = json.loads(state.queue.peek(INTERACTION_QUEUE, 1)[0].body)
    assert (body["messageId"], body["batchStartTimestamp"]) == (
        f"{SESSION}:interaction:1", (HOUR_US + 16 * 5 * SECOND_US) // 1000,
    )  # fmt: skip
    assert (receipt["messages_rebuilt"], receipt["messages_withdrawn"]) == (1, 0)
    receipt = await erased(state, TO_US, HOUR_US + 106 * SECOND_US)
    assert told_frames(state) == [[*range(21, 25)]]
    assert (receipt["messages_rebuilt"], receipt["messages_withdrawn"]) == (0, 1)
    assert state.audit().faults == []


async def test_messages_that_consumers_have_or_had_are_listed_and_hold_nothing_erased_any_more(state: Any) -> None:
    (leased,) = state.queue.pull(INTERACTION_QUEUE, 1, 30)
    receipt = await erased(state)
    assert receipt["messages_taken"] == [f"{SESSION}:interaction:0", f"{SESSION}:interaction:1"]
    assert told_frames(state)[0] == [*range(15, 21)]
    assert state.queue.ack(INTERACTION_QUEUE, [leased.lease_id]).settled == 1


async def test_a_dead_letter_holds_nothing_erased_any_more(state: Any) -> None:
    state.tamper("update message set dead_us = 1, attempts = 4, seen = 1", database="queue.db")
    receipt = await erased(state)
    assert len(receipt["messages_taken"]) == 2
    bodies = [json.loads(message.body) for message in state.queue.dead(INTERACTION_QUEUE, 10)]
    assert [frame["frameIndex"] for frame in bodies[0]["frameAnalyses"]] == [*range(15, 21)]


async def test_a_dead_letter_that_was_replayed_is_listed_since_consumers_had_it(state: Any) -> None:
    for _ in range(MAX_DELIVERIES):
        (delivery,) = state.queue.pull(INTERACTION_QUEUE, 1, 30)
        state.queue.retry(INTERACTION_QUEUE, [delivery.lease_id], 0, "cannot")
    assert state.queue.replay(INTERACTION_QUEUE) == 1
    receipt = await erased(state)
    assert receipt["messages_taken"] == [f"{SESSION}:interaction:0", f"{SESSION}:interaction:1"]


async def test_a_message_on_its_way_from_the_outbox_does_not_get_past(state: Any) -> None:
    await state.analyse(2)
    (session_id,) = await state.store.read(
        lambda db: db.execute("select id from session where state = 'open'").fetchone()
    )
    await state.close(session_id)
    box = outbox.StoredOutbox(state.store)
    async with state.dispatcher.publishing:
        rows = await box.due(state.clock.now_us(), 100)
        erasure_id = await request(state, HOUR_US + 3600 * SECOND_US, HOUR_US + 3631 * SECOND_US)
        erasing = asyncio.create_task(eraser_of(state).run_once())
        async with asyncio.timeout(5):
            while await state.store.read(
                lambda db: db.execute("select 1 from frame where seq = 30 and state <> 'erased'").fetchone()
            ):
                await asyncio.sleep(0.01)
        await state.dispatcher._publish(rows)
    await erasing
    assert told_frames(state)[-1] == [2, 3, 4]
    assert (await receipt_of(state, erasure_id))["messages_rebuilt"] == 1
    assert state.audit().faults == []


async def test_what_waits_in_the_outbox_is_rebuilt_there(state: Any) -> None:
    await state.analyse(2)
    (session_id,) = await state.store.read(
        lambda db: db.execute("select id from session where state = 'open'").fetchone()
    )
    await state.close(session_id)
    await erased(state, HOUR_US + 3600 * SECOND_US, HOUR_US + 3631 * SECOND_US)
    assert state.audit().faults == []
    await state.dispatcher.run_once()
    assert told_frames(state)[-1] == [2, 3, 4]


async def test_an_erasure_that_was_cut_off_is_finished_later(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CrowError(Kind.UNAVAILABLE, "queue_unavailable", "locked")

    monkeypatch.setattr("crow_receiver.erasure.FRAMES_AT_ONCE", 3)
    erasure_id = await request(state)
    with monkeypatch.context() as broken:
        broken.setattr(state.queue, "rewrite", refuse)
        with pytest.raises(CrowError):
            await eraser_of(state).run_once()
    assert state.audit().faults == [], "the queue's message is known to be behind"
    await eraser_of(state).run_once()
    receipt = await receipt_of(state, erasure_id)
    assert (receipt["frames"], receipt["pictures"], receipt["analyses"]) == (8, 8, 7)
    assert receipt["messages_taken"] == [f"{SESSION}:interaction:0"]
    assert receipt["messages_rebuilt"] == 1


async def test_an_upload_of_the_span_that_comes_later_is_refused(state: Any) -> None:
    await erased(state)
    intake = Intake(state.store, NobodyHears(), state.clock, GAP_US)
    with pytest.raises(CrowError) as caught:
        await intake.single_frame(await camera_of(state), "rest", frame_at(TO_US - 1, 1))
    assert caught.value.code == "erased"
    assert not caught.value.retryable
    assert (await intake.single_frame(await camera_of(state), "rest", frame_at(TO_US, 2))).session_id == SESSION


async def test_the_receipt_can_be_checked(state: Any) -> None:
    receipt = await erased(state)
    digest = receipt.pop("sha256")
    canonical = json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(canonical).hexdigest() == digest
    assert (receipt["camera"], receipt["reason"]) == ("acme/shop/till", "asked to")
    assert (receipt["from_us"], receipt["to_us"]) == (FROM_US, TO_US)


@asynccontextmanager
async def running(state: Any, vision: ScriptedVision) -> AsyncIterator[SessionDirectory]:
    """Sessions, analysis and erasure, as in a running receiver."""
    waiting = asyncio.Event()
    directory = SessionDirectory(state.store, state.clock, BatchLimits(10, 30), 300, state.dispatcher.wake, waiting.set)
    await directory.resume()
    scheduler = AnalysisScheduler(state.store, vision, directory, state.clock, waiting)
    tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(eraser_of(state, directory).run())]
    try:
        yield directory
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await directory.stop()


async def patterns(state: Any) -> list[tuple[str, int, dict[str, int]]]:
    await state.dispatcher.run_once()
    bodies = [json.loads(message.body) for message in state.queue.peek(PATTERN_QUEUE, 100)]
    return [(body["kind"], body["revision"], body["frames"]) for body in bodies]


async def test_a_closed_session_is_opened_and_closes_with_its_next_revision_and_new_sums(
    state: Any, clock: ManualClock
) -> None:
    async with running(state, ScriptedVision()) as directory:
        await until(lambda: directory.open_sessions == 1)
        clock.advance(400)
        await until(lambda: directory.open_sessions == 0)
        before = await patterns(state)
        await request(state)
        found = before
        async with asyncio.timeout(10):
            while ("session", 1) not in {(kind, revision) for kind, revision, _ in found}:
                await asyncio.sleep(0.05)
                found = await patterns(state)
        assert directory.open_sessions == 0
    assert found[len(before) :] == [
        ("window", 1, {"analysed": 7, "failed": 0}),
        ("window", 1, {"analysed": 8, "failed": 0}),
        ("session", 1, {"analysed": 17, "failed": 0}),
    ]
    assert state.audit().faults == []


async def test_frames_that_wait_or_are_being_analysed_are_erased_too_and_their_session_closes(
    state: Any, clock: ManualClock
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    class SlowVision(ScriptedVision):
        async def describe(self, request: Any) -> Any:
            at_work.set()
            await go_on.wait()
            return await super().describe(request)

    async with running(state, SlowVision()) as directory:
        await at_work.wait()
        erasure_id = await request(state, HOUR_US + 3600 * SECOND_US, HOUR_US + 7200 * SECOND_US)
        async with asyncio.timeout(10):
            while (await state.store.read(lambda db: erasures.by_id(db, erasure_id))).receipt is None:
                await asyncio.sleep(0.02)
        go_on.set()
        clock.advance(400)
        await until(lambda: directory.open_sessions == 0)
    report = state.audit()
    assert report.faults == []
    assert report.cameras[0].as_json()["erased"] == 5
    assert await state.store.read(lambda db: frames.next_frames(db, clock.now_us())) == []


async def test_a_session_whose_waiting_frames_were_erased_waits_for_them_no_longer(
    state: Any, clock: ManualClock
) -> None:
    directory = SessionDirectory(state.store, clock, BatchLimits(10, 30), 300, lambda: None, lambda: None)
    await directory.resume()
    clock.advance(29)  # no batch is due, so that nothing else makes the session look again
    await asyncio.sleep(0.1)
    await request(state, HOUR_US + 3632 * SECOND_US, HOUR_US + 7200 * SECOND_US)
    await eraser_of(state, directory).run_once()
    await asyncio.sleep(0.1)
    (actor,) = [actor for _, actor, _ in directory._actors.values()]
    assert (actor._state.pending, actor._state.unbatched) == (0, 3)
    clock.advance(400)
    await until(lambda: directory.open_sessions == 0)
    await directory.stop()
    assert state.audit().faults == []


async def test_an_outcome_that_comes_after_the_erasure_changes_nothing(state: Any) -> None:
    (frame,) = await state.store.read(lambda db: frames.next_frames(db, state.clock.now_us()))
    await erased(state, HOUR_US + 3600 * SECOND_US, HOUR_US + 7200 * SECOND_US)
    directory = SessionDirectory(state.store, state.clock, BatchLimits(10, 30), 300, lambda: None, lambda: None)
    await directory.resume()
    await directory.finished(frame.camera.id, frame.session_id, Outcome(frame, analysis("Too late.")))
    await directory.stop()
    assert on_disk(state, b"Too late.") == []


def erase(directory: Path, *words: str) -> Result:
    options = ["erase", "--camera", "acme/shop/till", "--from", "2027-01-15T08:00:40Z", "--to", "2027-01-15T08:01:20Z"]
    environ = {"CROW_RECEIVER_STATE_DIR": str(directory)}
    return CliRunner().invoke(main, [*options, "--reason", "asked to", *words], env=environ)


@pytest.fixture(autouse=True)
def the_command_has_our_time(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr("crow_receiver.cli.erase.SystemClock", lambda: clock)


async def test_a_span_that_lies_ahead_is_refused(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be taken back, and all frames until then would be refused."""
    monkeypatch.setattr("crow_receiver.cli.erase.SystemClock", lambda: ManualClock(HOUR_US - 48 * 3600 * SECOND_US))
    done = await asyncio.to_thread(erase, state.directory, "--yes")
    assert done.exit_code == 2
    assert "ahead" in done.output
    assert "nothing was erased" in listed(state.directory)


def listed(directory: Path) -> str:
    return CliRunner().invoke(main, ["erasures"], env={"CROW_RECEIVER_STATE_DIR": str(directory)}).output


async def test_the_command_has_a_running_receiver_erase_and_waits_for_it(state: Any) -> None:
    async with running(state, ScriptedVision()):
        done = await asyncio.to_thread(erase, state.directory, "--yes")
    assert done.exit_code == 0, done.output
    assert "8 frames, 8 pictures, 7 analyses" in done.output
    assert f"a consumer has taken {SESSION}:interaction:0" in done.output
    assert " 8 " in listed(state.directory)


async def test_the_command_erases_by_itself_when_no_receiver_runs(state: Any) -> None:
    state.store.close()
    done = await asyncio.to_thread(erase, state.directory, "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["frames"] == 8
    assert state.audit().faults == []


async def test_the_command_asks_first_and_gives_up_waiting_with_the_way_on(state: Any) -> None:
    asked = await asyncio.to_thread(erase, state.directory)
    assert asked.exit_code == 1
    assert "for good?" in asked.output
    assert "nothing was erased" in listed(state.directory)
    waited = await asyncio.to_thread(erase, state.directory, "--yes", "--wait", "0")  # the store is in use, by nobody
    assert waited.exit_code == 1
    assert "crow-receiver erasures" in waited.stderr
    assert "under way" in listed(state.directory)


async def test_a_frame_elsewhere_is_not_erased(state: Any) -> None:
    camera = await state.store.write(lambda tx: cameras.announce(tx.db, CameraKey("acme", "shop", "door"), "Door", 0))
    await put(state.store, camera, 1, FROM_US)
    await erased(state)
    rows = await state.store.read(lambda db: db.execute("select state from frame where camera = 2").fetchall())
    assert rows == [("pending",)]
