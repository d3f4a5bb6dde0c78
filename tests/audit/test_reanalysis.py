"""Frames described again: beside what was said before, told once as a revision, gone with what they were made of."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ManualClock
from receiver_parts import HOUR_US, SECOND_US, ScriptedVision, analysis

from crow_receiver.cli.main import main
from crow_receiver.erasure import Eraser
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE
from crow_receiver.reanalysis.replay import STRETCH_US, Replay, Stretch, stretches
from crow_receiver.reanalysis.telling import tell
from crow_receiver.retention import Retention
from crow_receiver.session import records
from crow_receiver.session.records import BatchLimits, Revised
from crow_receiver.store import erasures, reanalyses
from crow_receiver.store.sessions import find_session
from crow_receiver.vision.port import Previous, VisionRequest
from crow_receiver.vision.schema import Activity, Analysis, Movement, Person, Role
from crow_shared.database import connect, transaction
from crow_shared.errors import CrowError, Kind

CLOSED = "acme.shop.till.20270115T080005000Z"  # frames 0 to 24, one every 5 s; 7 failed, and 0 to 9 were consumed
OPEN = "acme.shop.till.20270115T090029000Z"  # frames 0 to 4, one a second; 3 and 4 wait, and no message tells of 0 to 2
ALWAYS = (-(2**62), 2**62)
LIMITS = BatchLimits(frames=10, age_s=30)
SOMEBODY = Person(role=Role.STAFF, zone="Till", activity=Activity.PAYING, movement=Movement.STILL, confidence=0.9)


def answer(request: VisionRequest, words: str = "Again", engine: str = "other") -> Analysis:
    said = analysis(f"{words} at {request.capture_us}.", engine)
    return said.model_copy(update={"scene": said.scene.model_copy(update={"people": [SOMEBODY]})})


@pytest.fixture
def db(state: Any) -> Iterator[sqlite3.Connection]:
    """As the command has it: beside the store, which a receiver has."""
    with closing(connect(state.directory / "receiver.db")) as opened:
        yield opened


def begun(db: sqlite3.Connection, sessions: Sequence[str] = (CLOSED,), asked: str = "{}", *, anew: bool = False) -> int:
    with transaction(db):
        return reanalyses.begin(db, asked, sessions, 1, anew=anew)


async def replay(
    state: Any,
    db: sqlite3.Connection,
    run: int,
    vision: ScriptedVision,
    sessions: Sequence[str] = (CLOSED,),
    most: int = 1000,
    span: tuple[int, int] = ALWAYS,
) -> None:
    found = [find_session(db, session_id) for session_id in sessions]
    wanted = [one for session in found if session is not None for one in stretches(session, *span, split=False)]
    await Replay(db, state.directory / "pictures", vision, run, lambda: None).run(wanted, most)


async def replayed(
    state: Any, db: sqlite3.Connection, how: Callable[[VisionRequest], Analysis] = answer, *, anew: bool = False
) -> int:
    run = begun(db, anew=anew)
    await replay(state, db, run, ScriptedVision(how))
    return run


def told(state: Any, db: sqlite3.Connection, run: int) -> Revised:
    return tell(db, run, LIMITS, state.clock.now_us(), lambda _: None)


def bodies(state: Any, queue: str) -> list[dict[str, Any]]:
    return [json.loads(message.body) for message in state.queue.peek(queue, 100)]


def descriptions(db: sqlite3.Connection) -> list[str]:
    return [json.loads(body)["scene"]["description"] for (body,) in db.execute("select body from analysis order by 1")]


class Meeting(ScriptedVision):
    """Answers once a frame of each of two sessions is under way, a session's frames one by one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lines: set[str] = set()
        self._both = asyncio.Event()

    async def describe(self, request: VisionRequest) -> Analysis:
        self._lines.add(request.camera)
        if len(self._lines) == 2:
            self._both.set()
        async with asyncio.timeout(5):
            await self._both.wait()
        return await super().describe(request)


async def test_answers_are_kept_beside_what_was_said_before_which_stays(state: Any, db: sqlite3.Connection) -> None:
    before = descriptions(db)
    run = begun(db, (CLOSED, OPEN))
    vision = Meeting(answer, slots=3)
    await replay(state, db, run, vision, (CLOSED, OPEN))
    assert descriptions(db) == before
    assert (reanalyses.by_id(db, run).described, len(vision.seen)) == (28, 28), "waiting frames are left alone"
    by_session = {line: [time for camera, time in vision.seen if camera == line] for line, _ in vision.seen}
    assert all(times == sorted(times) for times in by_session.values())
    pairs = reanalyses.pairs(db, run, CLOSED)
    assert [pair.frame_index for pair in pairs if pair.before is None] == [7], "it had failed before"
    assert {pair.now.scene.description.split()[0] for pair in pairs if pair.now} == {"Again"}


async def test_a_span_is_described_alone(state: Any, db: sqlite3.Connection) -> None:
    run, span = begun(db), (HOUR_US + 10 * SECOND_US, HOUR_US + 20 * SECOND_US)
    await replay(state, db, run, ScriptedVision(answer), span=span)
    assert [pair.capture_us for pair in reanalyses.pairs(db, run, CLOSED)] == [span[0], span[0] + 5 * SECOND_US]
    assert reanalyses.found(db, run, CLOSED, *span) == reanalyses.Found(2, 2, 0, 0, 0, 0, 0)


async def test_stretches_hold_every_frame_once(state: Any, db: sqlite3.Connection) -> None:
    state.tamper("update session set last_capture_us = first_capture_us + ? where id = ?", 2 * STRETCH_US, CLOSED)
    session = find_session(db, CLOSED)
    assert session is not None
    first_us, last_us = session.first_capture_us, session.last_capture_us
    whole = Stretch(CLOSED, first_us, last_us + 1)
    assert stretches(session, *ALWAYS, split=False) == [whole]
    assert stretches(session, *ALWAYS, split=True) == [
        Stretch(CLOSED, first_us, first_us + STRETCH_US),
        Stretch(CLOSED, first_us + STRETCH_US, last_us),
        Stretch(CLOSED, last_us, last_us + 1),
    ]
    assert stretches(session, first_us + 1, first_us + 3, split=True) == [Stretch(CLOSED, first_us + 1, first_us + 3)]
    assert stretches(session, last_us + 1, ALWAYS[1], split=True) == []


async def test_what_can_be_described_again_is_counted(state: Any, db: sqlite3.Connection) -> None:
    state.tamper("update frame set encoding = 'h264' where seq = 2")
    state.tamper("update frame set segment = null where seq in (3, 4)")
    state.tamper("update frame set state = 'erased', segment = null where seq = 5")
    run = begun(db)
    found = reanalyses.found(db, run, CLOSED, *ALWAYS)
    assert found == reanalyses.Found(22, 0, keyframes=1, failed_before=1, without_picture=2, erased=1, waiting=0)
    assert reanalyses.found(db, run, OPEN, *ALWAYS).waiting == 2


async def test_a_run_that_was_cut_off_goes_on_with_the_first_frame_without_an_answer(
    state: Any, db: sqlite3.Connection
) -> None:
    def fail_at_the_fifth(request: VisionRequest) -> Analysis:
        if request.capture_us == HOUR_US + 25 * SECOND_US:
            raise CrowError(Kind.UNAVAILABLE, "no_worker", "no worker")
        return answer(request)

    run = begun(db)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("crow_receiver.reanalysis.replay.RETRY_FIRST_S", 0)
        with pytest.raises(CrowError, match="no worker"):
            await replay(state, db, run, ScriptedVision(fail_at_the_fifth))
    assert (reanalyses.by_id(db, run).described, reanalyses.by_id(db, run).failed) == (4, 0)
    assert begun(db) == run, "the same was asked for"
    vision = ScriptedVision(answer)
    await replay(state, db, run, vision)
    assert [time for _, time in vision.seen] == [HOUR_US + seq * 5 * SECOND_US for seq in range(5, 26)]
    assert begun(db, anew=True) != run


async def test_a_frame_that_an_engine_refuses_has_its_reason_and_is_not_asked_about_again(
    state: Any, db: sqlite3.Connection
) -> None:
    tries: list[int] = []

    def refuse(request: VisionRequest) -> Analysis:
        tries.append(request.capture_us)
        if request.capture_us == HOUR_US + 5 * SECOND_US:
            raise CrowError(Kind.CORRUPT, "picture_corrupt", "no picture")
        if request.capture_us == HOUR_US + 10 * SECOND_US:
            raise CrowError(Kind.TIMEOUT, "frame_deadline", "too long")
        return answer(request)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("crow_receiver.reanalysis.replay.RETRY_FIRST_S", 0)
        run = await replayed(state, db, refuse)
    failures = [pair.failure for pair in reanalyses.pairs(db, run, CLOSED) if pair.now is None]
    assert failures == ["picture_corrupt: no picture", "frame_deadline: too long (3 tries)"]
    assert len(tries) == 25 + 2
    await replay(state, db, run, ScriptedVision(refuse))
    assert len(tries) == 25 + 2


async def test_a_run_is_told_once_as_the_next_revision_of_batches_minutes_and_session(
    state: Any, db: sqlite3.Connection
) -> None:
    await state.dispatcher.run_once()
    before = {queue: len(bodies(state, queue)) for queue in (INTERACTION_QUEUE, PATTERN_QUEUE)}
    run = await replayed(state, db)
    assert told(state, db, run) == Revised(batches=3, too_large=0)
    assert told(state, db, run) == Revised(batches=0, too_large=0), "it was told"
    await state.dispatcher.run_once()
    batches = bodies(state, INTERACTION_QUEUE)[before[INTERACTION_QUEUE] :]
    assert [body["messageId"] for body in batches] == [f"{CLOSED}:interaction:{index}:1" for index in range(3)]
    assert [[frame["frameIndex"] for frame in body["frameAnalyses"]] for body in batches] == [
        [0, 1, 2, 3, 4, 5, 6, 8, 9, 10],
        list(range(11, 21)),
        list(range(21, 25)),
    ]
    assert {(body["revision"], body["late"], body["engine"]["name"]) for body in batches} == {(1, True, "other")}
    assert all(frame["description"].startswith("Again") for body in batches for frame in body["frameAnalyses"])
    patterns = bodies(state, PATTERN_QUEUE)[before[PATTERN_QUEUE] :]
    assert [(body["kind"], body["revision"], body["people"]["mean"]) for body in patterns] == [
        ("window", 1, 1.0),
        ("window", 1, 1.0),
        ("window", 1, 1.0),
        ("session", 1, 1.0),
    ]
    assert state.audit().faults == []


async def test_the_audit_misses_a_revision_that_is_nowhere(state: Any, db: sqlite3.Connection) -> None:
    told(state, db, await replayed(state, db))
    state.tamper(
        "delete from outbox_content where id = (select max(id) from outbox where queue = ?)", INTERACTION_QUEUE
    )
    state.tamper("delete from outbox where id = (select max(id) from outbox where queue = ?)", INTERACTION_QUEUE)
    assert {fault.kind for fault in state.audit().faults} == {"no_message"}


async def test_frames_without_an_answer_stay_as_they_were_told_and_name_their_engine(
    state: Any, db: sqlite3.Connection
) -> None:
    run = begun(db)
    await replay(state, db, run, ScriptedVision(answer), most=11)
    assert told(state, db, run).batches == 1
    await state.dispatcher.run_once()
    batch = bodies(state, INTERACTION_QUEUE)[-1]
    assert (batch["batchIndex"], batch["engine"]["name"]) == (0, "other")
    assert [frame["engine"] for frame in batch["frameAnalyses"]] == [None] * 10

    second = begun(db, anew=True)
    span = (HOUR_US + 30 * SECOND_US, HOUR_US + 60 * SECOND_US)
    await replay(state, db, second, ScriptedVision(lambda request: answer(request, "Third", "third")), span=span)
    told(state, db, second)
    await state.dispatcher.run_once()
    batches = {body["batchIndex"]: body for body in bodies(state, INTERACTION_QUEUE) if body["revision"] == 2}
    said = [(frame["description"].split()[0], frame["engine"]) for frame in batches[0]["frameAnalyses"]]
    assert [word for word, _ in said] == ["Again"] * 5 + ["Third"] * 5
    assert [engine and engine["name"] for _, engine in said] == [None] * 5 + ["third"] * 5
    assert state.audit().faults == []


async def test_a_batch_that_would_be_too_large_stays_as_it_was_told(
    state: Any, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await replayed(state, db)
    monkeypatch.setattr(records, "MAX_MESSAGE_BYTES", 3000)
    assert told(state, db, run) == Revised(batches=1, too_large=2)
    (with_answers,) = db.execute("select count(*) from analysis where told_run is not null").fetchone()
    assert with_answers == 4
    assert state.audit().faults == []


async def test_what_is_summed_later_is_what_was_told_last(state: Any, db: sqlite3.Connection) -> None:
    told(state, db, await replayed(state, db))
    state.tamper("update session set state = 'open' where id = ?", CLOSED)
    state.tamper("update pattern_window set changed = 1 where session_id = ?", CLOSED)
    await state.close(CLOSED)
    await state.dispatcher.run_once()
    last = bodies(state, PATTERN_QUEUE)[-1]
    assert (last["kind"], last["revision"], last["people"]["mean"]) == ("session", 2, 1.0)
    assert [engine["name"] for engine in last["engines"]] == ["other"]


async def test_a_session_that_is_open_sums_up_by_itself(state: Any, db: sqlite3.Connection) -> None:
    state.clock.advance(31)
    await state.store.write(lambda tx: records.record(tx, OPEN, [], LIMITS, state.clock.now_us()))
    run = begun(db, (OPEN,))
    await replay(state, db, run, ScriptedVision(answer), (OPEN,))
    assert told(state, db, run).batches == 1
    assert db.execute("select state from session where id = ?", (OPEN,)).fetchone() == ("open",)
    await state.analyse(2)
    await state.close(OPEN)
    await state.dispatcher.run_once()
    assert bodies(state, PATTERN_QUEUE)[-1]["people"]["mean"] == 0.6, "three of five were described again"
    assert state.audit().faults == []


async def test_telling_that_is_cut_off_leaves_no_session_half_told_and_goes_on(
    state: Any, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.clock.advance(31)
    await state.store.write(lambda tx: records.record(tx, OPEN, [], LIMITS, state.clock.now_us()))
    run = begun(db, (CLOSED, OPEN))
    await replay(state, db, run, ScriptedVision(answer), (CLOSED, OPEN))
    put, written = records._put, 0

    def interrupted(*arguments: Any) -> None:
        put(*arguments)
        nonlocal written
        written += 1
        if written > 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(records, "_put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            told(state, db, run)
    assert state.audit().faults == []
    assert db.execute("select count(*) from outbox where message_id like '%:interaction:%:1'").fetchone() == (0,)
    assert told(state, db, run).batches == 4
    assert state.audit().faults == []


async def test_a_run_that_was_told_takes_no_more_answers_and_stays(state: Any, db: sqlite3.Connection) -> None:
    run = begun(db)
    await replay(state, db, run, ScriptedVision(answer), most=3)
    told(state, db, run)
    await replay(state, db, run, ScriptedVision(answer), most=3)
    assert reanalyses.by_id(db, run).described == 3
    with pytest.raises(CrowError, match="was dispatched"):
        reanalyses.remove(db, run)
    other = await replayed(state, db, anew=True)
    with transaction(db):
        reanalyses.remove(db, other)
    assert [one.id for one in reanalyses.every(db)] == [run]
    assert db.execute("select count(*) from reanalysed where run = ?", (other,)).fetchone() == (0,)


async def erased(state: Any, seconds: tuple[int, int]) -> dict[str, Any]:
    span = tuple(HOUR_US + second * SECOND_US for second in seconds)
    erasure_id = await state.store.write(
        lambda tx: erasures.request(tx.db, 1, span[0], span[1], "asked to", state.clock.now_us())
    )
    await Eraser(state.store, state.queue, state.clock, None, state.dispatcher.publishing).run_once()
    receipt = (await state.store.read(lambda db: erasures.by_id(db, erasure_id))).receipt
    done: dict[str, Any] = json.loads(receipt)
    return done


def on_disk(state: Any, words: str) -> list[str]:
    return [path.name for path in state.directory.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]


@pytest.mark.parametrize("dispatched", [True, False])
async def test_of_erased_frames_nothing_is_left_that_was_said_again(
    state: Any, db: sqlite3.Connection, dispatched: bool
) -> None:
    run = await replayed(state, db)
    told(state, db, run)
    if dispatched:
        await state.dispatcher.run_once()
    gone = [f"Again at {HOUR_US + seq * 5 * SECOND_US}." for seq in range(8, 16)]
    assert all(on_disk(state, words) for words in gone)
    receipt = await erased(state, (40, 80))
    assert [words for words in gone if on_disk(state, words)] == []
    assert on_disk(state, f"Again at {HOUR_US + 16 * 5 * SECOND_US}.")
    assert receipt["messages_rebuilt"] == 3, "revision 0 of the second batch, revision 1 of both"
    assert state.audit().faults == []
    await state.close(CLOSED)
    await state.dispatcher.run_once()
    assert state.audit().faults == []
    assert bodies(state, PATTERN_QUEUE)[-1]["frames"] == {"analysed": 17, "failed": 0}


async def test_an_answer_to_a_frame_that_was_erased_meanwhile_is_not_kept(state: Any, db: sqlite3.Connection) -> None:
    run = begun(db)
    (first, *_) = reanalyses.next_frames(db, run, CLOSED, ALWAYS[1], (0, 0), 1)
    await erased(state, (0, 10))
    with transaction(db):
        reanalyses.record(db, run, first.id, analysis("Too late."), None)
    assert on_disk(state, "Too late.") == []
    assert reanalyses.by_id(db, run).described == 0


async def test_a_frame_whose_picture_went_meanwhile_has_not_failed(state: Any, db: sqlite3.Connection) -> None:
    run = begun(db)

    def forget_the_next(request: VisionRequest) -> Analysis:
        if request.capture_us == HOUR_US + 5 * SECOND_US:
            state.tamper("update frame set segment = null where seq = 2")
            path = state.directory / "pictures" / "000000000001.seg"
            path.write_bytes(b"\0" * len(path.read_bytes()))
        return answer(request)

    await replay(state, db, run, ScriptedVision(forget_the_next))
    done = reanalyses.by_id(db, run)
    assert (done.described, done.failed) == (1, 23), "the others' pictures are damaged, the second's is gone"


async def test_a_run_goes_with_its_last_session(state: Any, db: sqlite3.Connection, clock: ManualClock) -> None:
    told(state, db, await replayed(state, db))
    await state.dispatcher.run_once()
    clock.advance(200 * 3600)
    await Retention(state.store, clock, pictures_h=72, records_h=168).run_once()
    assert db.execute("select id from session").fetchall() == [(OPEN,)]
    for table in ("reanalysis", "reanalysis_session", "reanalysed"):
        assert db.execute(f"select count(*) from {table}").fetchone() == (0,), table
    assert state.audit().faults == []


def command(state: Any, *words: str) -> Result:
    return CliRunner().invoke(main, words, env={"CROW_RECEIVER_STATE_DIR": str(state.directory)})


async def test_runs_are_listed_shown_and_removed(state: Any, db: sqlite3.Connection) -> None:
    assert "nothing was described again" in command(state, "reanalyses").output
    asked = json.dumps(
        {"engines": [{"engine": "other", "models": ["tiny"], "prompt": "new+1234"}], "sessions": [CLOSED]}
    )
    run = begun(db, asked=asked)
    await replay(state, db, run, ScriptedVision(answer))
    listed = command(state, "reanalyses").output
    assert "other tiny new+1234" in listed
    assert "not dispatched" in listed
    shown = command(state, "reanalyses", str(run)).output
    assert "24 compared; 1 failed before and are described now" in shown
    assert "people     equal in 0, more in 24, fewer in 0; mean difference +1.00" in shown
    assert "before: [people 0] Seen at" in shown
    assert command(state, "reanalyses", "--remove").exit_code == 2
    assert command(state, "reanalyses", str(run), "--remove").exit_code == 0
    assert command(state, "reanalyses", str(run)).exit_code == 2


async def test_a_run_hears_what_it_said_itself_of_the_frame_before(state: Any, db: sqlite3.Connection) -> None:
    heard: list[Previous | None] = []

    def how(request: VisionRequest) -> Analysis:
        heard.append(request.previous)
        return answer(request)

    run = begun(db)
    (session,) = [find_session(db, CLOSED)]
    assert session is not None
    wanted = stretches(session, *ALWAYS, split=False)
    pictures = state.directory / "pictures"
    await Replay(db, pictures, ScriptedVision(how), run, lambda: None, tells_previous=True).run(wanted, 1000)
    assert heard[0] is None
    assert all(previous is not None and previous.description.startswith("Again at") for previous in heard[1:])
    assert len(heard) > 1
