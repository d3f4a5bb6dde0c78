"""The ledger on disk: through kills, downtime and a disk that refuses, it agrees with the spool and with the clock."""

import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from camera_rig import rtsp_camera
from conftest import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from receiver_parts import frame_at

from crow_daemon.capture.outcome import SENT, Dropped, Missed
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger import database
from crow_daemon.ledger.database import DAY_US
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.ledger.tally import LedgerMark, Tally
from crow_daemon.registry.camera import Camera
from crow_daemon.spool.accounts import CameraMark
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.clock import Moment

SECOND_US = 1_000_000
TILL = rtsp_camera("rtsp://camera/1", sample_interval_ms=1000)


@dataclass
class Numbers:
    """A spool as far as the ledger sees it; it forgets the capture times of all frames but the latest."""

    captures_us: list[int] = field(default_factory=list)
    remembers: int = 1000

    def totals(self) -> list[CameraMark]:
        return [CameraMark("till", len(self.captures_us), 0)] if self.captures_us else []

    def last_captures_us(self, camera_id: str, frames: int) -> list[int]:
        assert camera_id == "till"
        return self.captures_us[-min(frames, self.remembers) :]


class Life:
    """One daemon's run, from a start to a kill."""

    def __init__(self, directory: Path, clock: ManualClock, numbers: Numbers, cameras: list[Camera]) -> None:
        self.clock, self.numbers, self.asleep_s = clock, numbers, 0.0
        self.ledger = SampleLedger(directory / "ledger.db", clock, lambda: self.asleep_s)
        self.ledger.begin(numbers, cameras)
        self.account = self.ledger.book.account(TILL, Moment.now(clock)) if cameras else None

    def sample(self, outcome: str) -> None:
        assert self.account is not None
        at_us = self.clock.now_us()
        self.account.live(Moment.now(self.clock))
        self.account.sampled(at_us, 0, Moment.now(self.clock))
        match outcome:
            case "sent":
                self.account.outcome(at_us, SENT)
                self.spool(at_us)
            case "gated":
                self.account.outcome(at_us, GateReason.NO_ACTIVITY)
            case "dropped":
                self.account.outcome(at_us, Dropped.OVERLOAD)
            case "in hand":
                self.account.outcome(at_us, SENT)

    def spool(self, at_us: int) -> None:
        self.numbers.captures_us.append(at_us)
        self.ledger.book.spooled([frame_at(at_us, len(self.numbers.captures_us), "till")])

    def kill(self) -> None:
        self.ledger._database.close()


def total(ledger: SampleLedger) -> Tally:
    found = ledger._database.sums(0)
    return found.get("till", Tally())


STEP = st.one_of(
    st.tuples(st.just("advance"), st.floats(0.1, 90)),
    st.tuples(st.just("sleep"), st.floats(10, 500)),
    st.tuples(st.just("jump"), st.floats(-4000, 4000)),
    st.tuples(st.sampled_from(["sent", "gated", "dropped", "in hand", "down", "crash", "flush"]), st.just(0.0)),
    st.tuples(st.just("kill"), st.floats(0, 5000)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_through_any_history_sent_is_what_the_spool_numbered_and_expected_the_time_times_the_rate(
    steps: list[tuple[str, float]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock, numbers = ManualClock(), Numbers()
        life = Life(Path(directory), clock, numbers, [TILL])
        followed_s, beginnings, surplus, slept_s = 0.0, 1, 0, 0.0
        for step, seconds in steps:
            match step:
                case "advance":
                    clock.advance(seconds)
                    followed_s += seconds
                case "sleep":
                    clock.jump(seconds)
                    slept_s += seconds
                    life.asleep_s += seconds
                    life.ledger.flush()
                    followed_s += seconds
                    beginnings += 1
                case "jump":
                    clock.jump(seconds)
                    life.ledger.flush()  # while no second passes, the clocks of before and after the kill must agree
                case "down":
                    life.account.no_stream(Missed.CAMERA_DOWN, Moment.now(clock))
                case "crash":
                    life.account.worker_lost(Missed.WORKER_CRASHED, Moment.now(clock))
                case "flush":
                    life.ledger.flush()
                case "kill":
                    life.kill()
                    clock.advance(seconds)
                    followed_s += seconds
                    life = Life(Path(directory), clock, numbers, [TILL])
                    beginnings += 1
                case outcome:
                    life.sample(outcome)
                    surplus += 1  # it may come at any time here, several in one interval
        life.account.no_stream(Missed.STALLED, Moment.now(clock))
        life.ledger.finish()
        life.kill()
        after = Life(Path(directory), clock, numbers, [])
        tally = total(after.ledger)
        after.kill()
        assert tally.sent == len(numbers.captures_us)
        assert tally.expected == tally.sent + tally.gated.total() + tally.dropped.total()
        assert followed_s - beginnings - 1 <= tally.expected <= followed_s + beginnings + surplus + 1


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def life(tmp_path: Path, clock: ManualClock, numbers: Numbers) -> Iterator[Life]:
    made = Life(tmp_path, clock, numbers, [TILL])
    yield made
    made.kill()


def test_after_a_kill_what_the_spool_has_is_sent_and_the_rest_of_the_time_was_without_daemon(
    tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    for _ in range(5):
        life.sample("sent")
        clock.advance(1)
    life.ledger.flush()
    for outcome in ("sent", "gated", "sent"):
        life.sample(outcome)
        clock.advance(1)
    life.kill()
    clock.advance(92)
    after = Life(tmp_path, clock, numbers, [TILL])
    tally = total(after.ledger)
    after.kill()
    assert (tally.sent, tally.gated, tally.dropped) == (7, {}, {Missed.DAEMON_DOWN: 93})


@pytest.mark.parametrize("spooled", [True, False])
def test_a_frame_that_was_in_hand_at_the_last_writing_is_one_sample_whatever_became_of_it(
    spooled: bool, tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    life.sample("sent")
    clock.advance(1)
    in_hand_us = clock.now_us()
    life.sample("in hand")
    life.ledger.flush()
    if spooled:
        life.spool(in_hand_us)
    life.kill()
    clock.advance(10)
    after = Life(tmp_path, clock, numbers, [TILL])
    tally = total(after.ledger)
    after.kill()
    assert (tally.sent, tally.expected) == (1 + spooled, 11)


def test_the_time_in_which_a_daemon_ends_is_without_daemon_and_not_the_cameras_fault(
    tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    life.account.no_stream(Missed.CAMERA_DOWN, Moment.now(clock))
    clock.advance(3)
    life.account.stopped(Moment.now(clock))
    clock.advance(5)
    life.ledger.finish()
    life.kill()
    clock.advance(2)
    after = Life(tmp_path, clock, numbers, [TILL])
    assert total(after.ledger).dropped == {Missed.CAMERA_DOWN: 3, Missed.DAEMON_DOWN: 7}
    after.kill()


def test_numbers_whose_frames_the_spool_has_let_go_are_sent_all_the_same(
    tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    life.ledger.flush()
    for _ in range(4):
        life.sample("sent")
        clock.advance(1)
    life.kill()
    numbers.remembers = 1
    after = Life(tmp_path, clock, numbers, [TILL])
    assert total(after.ledger).sent == 4
    after.kill()


def test_a_ledger_that_is_new_takes_nothing_over_from_an_old_spool(tmp_path: Path, clock: ManualClock) -> None:
    life = Life(tmp_path, clock, Numbers([1, 2, 3]), [TILL])
    assert total(life.ledger).expected == 0
    life.kill()


def test_a_camera_that_was_added_a_moment_before_the_kill_loses_no_frame(
    tmp_path: Path, clock: ManualClock, numbers: Numbers
) -> None:
    empty = Life(tmp_path, clock, numbers, [])
    empty.ledger.follow([TILL])
    empty.account = empty.ledger.book.account(TILL, Moment.now(clock))
    empty.sample("sent")
    empty.kill()
    after = Life(tmp_path, clock, numbers, [TILL])
    assert total(after.ledger).sent == 1
    after.kill()


def test_a_spool_that_was_wiped_takes_nothing_back(
    tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    for _ in range(3):
        life.sample("sent")
        clock.advance(1)
    life.ledger.flush()
    life.kill()
    after = Life(tmp_path, clock, Numbers(), [TILL])
    after.sample("sent")
    after.ledger.flush()
    assert total(after.ledger).sent == 4
    after.kill()


@pytest.mark.parametrize("on", [True, False])
def test_the_time_without_daemon_is_missed_by_the_cameras_that_are_switched_on(
    on: bool, tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    life.account.stopped(Moment.now(clock))
    life.ledger.finish()
    clock.advance(3600)
    after = Life(tmp_path, clock, numbers, [TILL] if on else [])
    assert total(after.ledger).dropped == ({Missed.DAEMON_DOWN: 3600} if on else {})
    after.kill()


def test_a_daemon_that_was_away_for_a_month_tells_of_the_last_week(
    tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    life.ledger.flush()
    life.kill()
    clock.advance(30 * 86_400)
    after = Life(tmp_path, clock, numbers, [TILL])
    assert total(after.ledger).dropped == {Missed.DAEMON_DOWN: 7 * 86_400}
    after.kill()


def test_a_disk_that_refuses_for_a_while_costs_no_count(life: Life, clock: ManualClock, tmp_path: Path) -> None:
    life.sample("sent")
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        other.execute("begin exclusive")
        life.ledger._database._db.execute("pragma busy_timeout = 1")
        clock.advance(1)
        life.sample("gated")
        life.ledger.flush()
        assert total(life.ledger).expected == 0
        assert "locked" in str(life.ledger.status()["trouble"])
        other.execute("rollback")
    other.close()
    life.ledger.flush()
    assert life.ledger.status()["trouble"] is None
    assert total(life.ledger).counts().expected == 2


@pytest.mark.parametrize("damage", [b"no database at all", None])
def test_a_damaged_file_is_set_aside_and_the_daemon_starts(
    damage: bytes | None, tmp_path: Path, clock: ManualClock, life: Life, numbers: Numbers
) -> None:
    for _ in range(200):
        life.sample("sent")
        clock.advance(60)
    life.ledger.flush()
    life.kill()
    path = tmp_path / "ledger.db"
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 5 * 4096] = bytes(2 * 4096)
    path.write_bytes(damage or content)
    after = Life(tmp_path, clock, numbers, [TILL])
    assert total(after.ledger).expected == 0, "what the spool had given out before is not known"
    after.sample("sent")
    after.ledger.flush()
    assert total(after.ledger).sent == 1
    assert after.ledger.status() == {"unwritten_minutes": 0, "untold_minutes": 1, "trouble": None}
    assert len(list(tmp_path.glob("ledger.db.damaged-*"))) == 1
    after.kill()


def test_what_changed_is_told_in_its_order_until_the_receiver_has_just_that(life: Life, clock: ManualClock) -> None:
    life.sample("sent")
    clock.advance(60)
    life.account.outcome(clock.now_us(), SENT)
    life.sample("sent")
    life.ledger.flush()
    first, second = life.ledger.untold(10)
    assert first.revision == second.revision
    assert [minute.tally.sent for minute in life.ledger.untold(1)] == [1]
    clock.advance(1)
    life.sample("sent")
    life.ledger.flush()
    life.ledger.told([LedgerMark(*key(minute)) for minute in (first, second)])
    (again,) = life.ledger.untold(10)
    assert again.tally.sent == 2
    assert again.revision > second.revision
    life.ledger.told([LedgerMark(*key(again)), LedgerMark(*key(second))])
    assert life.ledger.untold(10) == []


def test_of_two_minutes_the_one_that_changed_first_is_told_first(life: Life, clock: ManualClock) -> None:
    life.account.live(Moment.now(clock))
    early_us = clock.now_us() - 3600 * SECOND_US
    for at_us in (clock.now_us(), early_us):
        life.spool(at_us)
        life.ledger.flush()
        clock.advance(1)
    assert [minute.minute_us < early_us + 60 * SECOND_US for minute in life.ledger.untold(2)] == [False, True]


def key(minute: object) -> tuple[str, int, int]:
    return minute.camera_id, minute.minute_us, minute.revision  # type: ignore[attr-defined]


def test_revisions_rise_though_the_clock_is_set_back(life: Life, clock: ManualClock) -> None:
    revisions = []
    for back_s in (0, 30, 30):
        clock.jump(-back_s)
        life.sample("gated")
        life.ledger.flush()
        revisions.append(max(minute.revision for minute in life.ledger.untold(10)))
    assert revisions == sorted(set(revisions))


def test_minutes_are_kept_for_a_week_and_for_a_month_while_the_receiver_does_not_have_them(
    life: Life, clock: ManualClock
) -> None:
    life.account.end(Moment.now(clock))
    life.account.outcome(0, SENT)
    life.spool(clock.now_us())
    life.ledger.flush()
    kept = []
    for days in (0, 8, 24):
        clock.advance(days * DAY_US / SECOND_US)
        if days == 8:
            life.spool(clock.now_us())
            life.ledger.flush()
            life.ledger.told([LedgerMark(*key(minute)) for minute in life.ledger.untold(10)[1:]])
        life.ledger.flush()
        kept.append(len(life.ledger._database.sums(0)) and total(life.ledger).sent)
    assert kept == [1, 2, 0]


def test_the_ledger_of_a_real_spool_agrees_with_it_after_a_kill(tmp_path: Path, clock: ManualClock) -> None:
    spool = Spool(tmp_path / "spool", SpoolLimits(64 << 20), clock, segment_bytes=1)  # each frame in a file of its own
    ledger = SampleLedger(tmp_path / "ledger.db", clock)
    ledger.begin(spool, [TILL])
    ledger.book.spooled(spool.append([frame_at(clock.now_us(), 0, "till")]))
    ledger.flush()
    clock.advance(60)
    for _ in range(3):
        clock.advance(1)
        spool.append([frame_at(clock.now_us(), 0, "till")])  # the kill comes before the ledger hears of it
    spool.release(spool.epochs()[-1], {"till": 3})
    ledger._database.close()
    spool.close()
    spool = Spool(tmp_path / "spool", SpoolLimits(64 << 20), clock)
    assert spool.last_captures_us("till", 1) == [clock.now_us()]
    ledger = SampleLedger(tmp_path / "ledger.db", clock)
    ledger.begin(spool, [TILL])
    assert total(ledger).sent == sum(mark.last_seq for mark in spool.totals()) == 4
    ledger.close()
    spool.close()


def test_what_was_counted_since_the_last_writing_is_said_to_be_unwritten(life: Life) -> None:
    life.sample("gated")
    assert life.ledger.status()["unwritten_minutes"] == 1
    life.ledger.flush()
    assert life.ledger.status()["unwritten_minutes"] == 0


def test_counting_what_the_receiver_does_not_have_is_bounded(
    life: Life, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MOST_COUNTED", 3)
    counted = []
    for _ in range(5):
        life.sample("gated")
        life.ledger.flush()
        clock.advance(60)
        counted.append(life.ledger.status()["untold_minutes"])
    assert counted == [1, 2, 3, 3, 3]
