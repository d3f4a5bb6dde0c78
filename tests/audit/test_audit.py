"""The audit finds the promise kept where it is, and every way in which it can be broken."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from receiver_parts import GAP_US, HOUR_US, SECOND_US, frame_at, known_camera, put

from crow_receiver.audit.intervals import holes_and_overlaps
from crow_receiver.audit.numbers import Span
from crow_receiver.audit.spool import parsed_spool
from crow_receiver.cli.main import main
from crow_receiver.queue.port import INTERACTION_QUEUE, REMEMBERED_US
from crow_receiver.store import ledger
from crow_receiver.store.arrivals import Arrival, store_single
from crow_receiver.store.ledger import MINUTE_US, LedgerMinute
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

SESSION = "acme.shop.till.20270115T080005000Z"
TILL = CameraKey("acme", "shop", "till")


def ends(state: Any, **options: Any) -> dict[str, int]:
    (camera,) = state.audit(**options).as_json()["cameras"]
    return {key: value for key, value in camera.items() if isinstance(value, int) and value}


async def test_a_state_in_which_all_is_well_has_one_end_for_every_number(state: Any) -> None:
    report = state.audit()
    assert report.faults == []
    assert ends(state) == {"numbers": 33, "told": 24, "failed": 1, "missing": 3, "waiting": 5}
    # 3 batches of which a consumer took one, 3 minutes, the session's end
    assert report.messages == {"waiting": 6, "taken": 1}
    assert report.cameras[0].reasons == {"spool_full": 3}


CONTROLS = {
    "a frame that vanished": (
        ["delete from analysis where frame = 13", "delete from frame where seq = 13"],
        {"no_end", "wrong_count", "wrong_message"},
    ),
    "a gap that was never recorded": (["delete from missing"], {"no_end"}),
    "a receiver that was restored from an older copy": (
        ["update missing set reason = 'receiver_restored'"], {"lost"},
    ),
    "a number with a frame and a reason why there is none": (
        ["insert into missing values (1, 'epoch', 5, 6, 'spool_full', '', 1)"], {"two_ends"},
    ),
    "a number that expired and is there": (["insert into expired values (1, 'epoch', 5, 5)"], {"two_ends"}),
    "a failed frame with an analysis": (
        ["insert into analysis select id, session_id, '{}', 1, null, null from frame where state = 'failed'"],
        {"two_ends"},
    ),
    "a frame that the daemon was not told of": (
        ["update position set durable_seq = 32"], {"beyond_position"},
    ),
    "a position that moved past nothing": (["update position set durable_seq = 35"], {"no_end"}),
    "a failure without its reason": (["update frame set failure = null where state = 'failed'"], {"no_reason"}),
    "an analysis that vanished": (["delete from analysis where frame = 13"], {"no_analysis", "wrong_message"}),
    "an analysis that went into no batch": (
        ["update analysis set batch_index = null where frame = 13"], {"unbatched", "wrong_message"},
    ),
    "a frame that waits in a closed session": (
        ["update session set state = 'closed', closings = 1 where state = 'open'"],
        {"unfinished", "unbatched", "no_message", "window_untold"},
    ),
    "a batch without its message": (
        [f"delete from outbox where message_id = '{SESSION}:interaction:1'"], {"no_message"},
    ),
    "a message marked as dispatched that the queue never had": (
        [f"update analysis set batch_index = 9 where session_id = '{SESSION}' and batch_index = 2",
         f"update outbox set message_id = '{SESSION}:interaction:9' where message_id = '{SESSION}:interaction:2'"],
        {"no_message"},
    ),
    "an analysis in another batch than its message": (
        ["update analysis set batch_index = 2 where frame = 12"], {"wrong_message"},
    ),
    "a minute that nobody was told of": (
        [f"update pattern_window set changed = 1 where session_id = '{SESSION}'"], {"window_untold"},
    ),
    "a minute without its message": (
        [f"delete from outbox where message_id like '{SESSION}:window:%'"], {"no_message"},
    ),
    "a session's end without its message": (
        [f"delete from outbox where message_id = '{SESSION}:session:0'"], {"no_message"},
    ),
    "a frame outside its session's times": (
        [f"update session set last_capture_us = last_capture_us - 1 where id = '{SESSION}'"], {"outside_session"},
    ),
    "a frame of another hour": (["update session set hour_us = hour_us - 3600000000"], {"outside_session"}),
    "two sessions at the same time": (
        [f"update session set first_capture_us = {HOUR_US + 6 * SECOND_US} where state = 'open'"], {"sessions_overlap"},
    ),
    "a session that counted wrong": (["update session set frames = frames + 1 where state = 'open'"], {"wrong_count"}),
}  # fmt: skip


@pytest.mark.parametrize("control", CONTROLS)
async def test_every_broken_promise_is_found(control: str, state: Any) -> None:
    statements, expected = CONTROLS[control]
    for statement in statements:
        state.tamper(statement)
    report = state.audit()
    assert {kind.value for kind in report.totals} == expected
    assert {fault.kind.value for fault in report.faults} == expected


async def of_the_ledger(state: Any, minutes: dict[int, int]) -> None:
    """The daemon says how many frames it sent, by minute of the hour, a while after they came."""
    camera = await known_camera(state.store)
    told = [LedgerMinute(HOUR_US + number * MINUTE_US, 1, sent, sent, {}, {}, []) for number, sent in minutes.items()]
    later_us = HOUR_US + 3700 * SECOND_US
    await state.store.write(lambda tx: ledger.store_minutes(tx.db, camera.id, told, later_us))


SENT_BY_MINUTE = {0: 11, 1: 12, 2: 2, 60: 4}  # 25 frames five seconds apart from second 5 on; four of five an hour on


@pytest.mark.parametrize(
    ("sent", "spooled", "expected", "elsewhere"),
    [
        (SENT_BY_MINUTE | {60: 5}, None, {}, 0),
        (SENT_BY_MINUTE, None, {"ledger_short": 1}, 0),
        (SENT_BY_MINUTE | {2: 5, 60: 5}, None, {}, 0),  # three are missing, with a reason
        (SENT_BY_MINUTE | {2: 9, 60: 5}, None, {}, 4),  # may be on their way, for all that is known here
        (SENT_BY_MINUTE | {2: 9, 60: 5}, 4, {}, 0),
        (SENT_BY_MINUTE | {2: 9, 60: 5}, 3, {"ledger_lost": 1}, 1),
    ],
)
async def test_what_the_daemon_says_that_it_sent_is_here_missing_or_with_the_daemon(
    sent: dict[int, int], spooled: int | None, expected: dict[str, int], elsewhere: int, state: Any
) -> None:
    await of_the_ledger(state, sent)
    spools = []
    if spooled is not None:
        waiting = [[34, 33 + spooled]]
        camera = {"camera_id": "till", "last_seq": 33 + spooled, "acked_seq": 33, "waiting": waiting, "holes": []}
        status = {"organization_id": "acme", "site_id": "shop", "daemon_id": "box"}
        text = json.dumps(status | {"epochs": [{"epoch": "epoch", "cameras": [camera]}]})
        spools = [parsed_spool(text, "test")]
    report = state.audit(spools=spools)
    assert {kind.value: count for kind, count in report.totals.items()} == expected
    (told,) = report.as_json()["ledgers"]
    assert told["elsewhere"] == elsewhere
    assert told["sent"] == sum(sent.values())


async def test_frames_that_came_by_http_are_none_that_a_daemon_sent(state: Any) -> None:
    await of_the_ledger(state, SENT_BY_MINUTE | {60: 5})
    camera = await known_camera(state.store)
    upload = Arrival(camera, frame_at(HOUR_US + 7 * SECOND_US, 1), HOUR_US, late=False)
    await state.store.write(lambda tx: store_single(tx, "uploads", upload, GAP_US))
    assert not {kind for kind in state.audit().totals if kind.startswith("ledger")}


async def test_a_minute_that_the_daemon_may_not_have_told_of_in_full_is_not_judged(state: Any) -> None:
    camera = await known_camera(state.store)
    early = LedgerMinute(HOUR_US, 1, 3, 3, {}, {}, [])
    await state.store.write(lambda tx: ledger.store_minutes(tx.db, camera.id, [early], HOUR_US + 30 * SECOND_US))
    report = state.audit()
    assert not report.totals
    assert report.ledgers[0].sent == 0


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        (f"delete from message where message_id = '{SESSION}:interaction:1'", "no_message"),
        (f"delete from tombstone where message_id = '{SESSION}:interaction:0'", "no_message"),
        (f"update message set body = '{{}}' where message_id = '{SESSION}:interaction:1'", "wrong_message"),
    ],
)
async def test_a_message_that_the_queue_lost_or_changed_is_found(tampering: str, expected: str, state: Any) -> None:
    state.tamper(tampering, database="queue.db")
    assert set(state.audit().totals) == {expected}


async def test_a_message_that_was_taken_longer_ago_than_the_queue_remembers_is_no_fault(
    state: Any, clock: ManualClock
) -> None:
    clock.advance(REMEMBERED_US / 1_000_000 + 1)
    deliveries = state.queue.pull(INTERACTION_QUEUE, 100, 30)
    state.queue.ack(INTERACTION_QUEUE, [delivery.lease_id for delivery in deliveries])  # forgets the old tombstone
    assert sqlite3.connect(state.directory / "queue.db").execute("select count(*) from tombstone").fetchone() == (2,)
    report = state.audit()
    assert report.faults == []
    assert report.messages["taken"] == 3


async def test_a_dead_letter_is_still_somewhere(state: Any) -> None:
    state.tamper("update message set dead_us = 1, lease_id = null", database="queue.db")
    report = state.audit()
    assert report.faults == []
    assert report.messages == {"dead": 6, "taken": 1}


async def test_what_waits_in_the_outbox_is_told(state: Any) -> None:
    await state.analyse(2)
    (session_id,) = await state.store.read(
        lambda db: db.execute("select id from session where state = 'open'").fetchone()
    )
    await state.close(session_id)
    report = state.audit()
    assert report.faults == []
    assert report.messages["outbox"] == 3


async def test_a_span_looks_at_its_own_numbers_and_sessions_alone(state: Any) -> None:
    span = Span(HOUR_US + 3600 * SECOND_US, HOUR_US + 7200 * SECOND_US)
    assert ends(state, span=span) == {"numbers": 5, "waiting": 5}
    state.tamper("delete from outbox")
    assert state.audit(span).faults == []
    assert state.audit(Span(HOUR_US, HOUR_US + 60 * SECOND_US)).totals == {"no_message": 24 + 4}


async def test_one_camera_can_be_looked_at_alone(state: Any) -> None:
    await put(state.store, await known_camera(state.store, "door"), 1, HOUR_US)
    assert len(state.audit().cameras) == 2
    assert [one.camera for one in state.audit(only=TILL).cameras] == [TILL]
    with pytest.raises(CrowError) as caught:
        state.audit(only=CameraKey("acme", "shop", "attic"))
    assert caught.value.kind is Kind.NOT_FOUND


async def test_uploads_are_numbered_by_their_sender_and_leave_no_holes(state: Any) -> None:
    state.tamper("update frame set epoch = 'rest', seq = seq * 1000 where session_id = ?", SESSION)
    state.tamper("insert into missing values (1, 'epoch', 1, 25, 'spool_full', '', 1)")
    assert state.audit().faults == []


def spool_of(**camera: Any) -> Any:
    numbers = {"camera_id": "till", "last_seq": 40, "acked_seq": 33, "waiting": [[34, 38]], "holes": []} | camera
    hole = {"from_seq": 39, "to_seq": 40, "reason": "spool_full", "detail": ""}
    numbers["holes"] = numbers["holes"] or [hole]
    status = {
        "organization_id": "acme", "site_id": "shop", "daemon_id": "box", "bytes": 1,
        "epochs": [{"epoch": "epoch", "cameras": [numbers]}],
    }  # fmt: skip
    return parsed_spool(json.dumps(status), "spool.json")


@pytest.mark.parametrize(
    ("numbers", "faults"),
    [
        ({}, {}),
        ({"acked_seq": 30}, {}),  # the last acknowledgement was lost
        ({"acked_seq": 36}, {"spool_ahead": 3}),
        ({"waiting": [[34, 36]]}, {"spool_lost": 2}),
        ({"last_seq": 41}, {"spool_lost": 1}),
        ({"camera_id": "attic", "acked_seq": 1}, {"spool_ahead": 1, "spool_lost": 32}),
    ],
)
async def test_a_spool_and_the_receiver_have_every_number_between_them(
    numbers: dict[str, Any], faults: dict[str, int], state: Any
) -> None:
    assert state.audit(spools=[spool_of(**numbers)]).totals == faults


def test_what_is_no_spool_status_is_refused_with_what_is_wrong() -> None:
    with pytest.raises(CrowError) as caught:
        parsed_spool('{"organization_id": "acme"}', "box.json")
    assert caught.value.kind is Kind.INVALID
    assert "box.json" in caught.value.message
    assert "site_id" in caught.value.message


intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(st.lists(intervals, max_size=3), st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_holes_and_overlaps_are_what_counting_one_by_one_finds(
    taken: list[list[tuple[int, int]]], low: int, high: int
) -> None:
    holes, doubled = set(), set()
    for is_hole, (first, last) in holes_and_overlaps([sorted(one) for one in taken], low, high):
        (holes if is_hole else doubled).update(range(first, last + 1))
    times = [sum(begin <= number <= end for one in taken for begin, end in one) for number in range(40)]
    assert holes == {number for number in range(low, high + 1) if times[number] == 0}
    assert doubled == {number for number in range(low, high + 1) if times[number] > 1}


def run(state: Any, monkeypatch: pytest.MonkeyPatch, *words: str, stdin: str | None = None) -> Any:
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(state.directory))
    return CliRunner().invoke(main, ["audit", *words], input=stdin)


async def test_the_command_prints_the_ends_and_exits_with_1_for_a_fault(
    state: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = run(state, monkeypatch)
    assert good.exit_code == 0, good.output
    header, line, *_ = good.output.splitlines()
    assert dict(zip(header.split(), line.split(), strict=True)) == {
        "camera": "acme/shop/till", "numbers": "33", "told": "24", "failed": "1", "missing": "3", "erased": "0",
        "expired": "0", "waiting": "5",
    }  # fmt: skip
    assert "every number has exactly one end" in good.output
    spool = spool_of(acked_seq=36).model_dump_json()
    bad = run(state, monkeypatch, "--spool", "-", "--json", stdin=spool)
    assert bad.exit_code == 1, bad.output
    said = json.loads(bad.stdout)
    assert (said["ok"], said["faultTotals"]) == (False, {"spool_ahead": 3})
    assert said["faults"][0]["camera"] == "acme/shop/till"
    assert "FAULT spool_ahead" in run(state, monkeypatch, "--spool", "-", stdin=spool).output


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--camera", "till"], ["--camera", "a/b/attic"]])
async def test_a_question_that_makes_no_sense_is_refused(
    words: list[str], state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(state, monkeypatch, *words).exit_code == 2


async def test_times_are_told_with_their_zone(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(state, monkeypatch, "--from", "2027-01-15T10:00:00+01:00", "--to", "2027-01-15T10:30:00Z", "--json")
    assert json.loads(found.stdout)["cameras"][0]["numbers"] == 5
