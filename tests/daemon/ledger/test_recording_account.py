"""A recording that is interrupted at any time ends with the ledger, and the frames, of one that never was."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from receiver_parts import frame_at

from crow_daemon.capture.outcome import SENT, Dropped, Missed
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.account import CameraAccount
from crow_daemon.ledger.database import DAY_US
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.ledger.tally import MINUTE_US, LedgerMark, Tally, WrittenMinute
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.spool.accounts import CameraMark
from crow_shared.clock import Moment

SECOND_US = 1_000_000
START_US = 1_700_000_040_250_000
TICKS = 100
MONDAY = Camera("monday", "Monday", Recording(Path("/rec/monday.mp4"), START_US), sample_interval_ms=1000)
SENT_EVERY = 7  # as a gate with a heartbeat does, and nothing else
HOLES = {20: 3, 55: 1}  # ticks without a picture before that one
DAMAGED = {33, 70}


@dataclass
class Spooled:
    """A spool as far as the ledger sees it."""

    captures_us: list[int] = field(default_factory=list)

    def totals(self) -> list[CameraMark]:
        last_us = self.captures_us[-1] if self.captures_us else None
        return [CameraMark("monday", len(self.captures_us), 0, last_us)] if self.captures_us else []

    def last_captures_us(self, camera_id: str, frames: int) -> list[int]:
        assert camera_id == "monday"
        return self.captures_us[-frames:]


class Reading:
    """A daemon that reads the recording, from where its ledger says, through a gate that goes by the last one sent."""

    def __init__(self, directory: Path, clock: ManualClock, spool: Spooled, camera: Camera = MONDAY) -> None:
        self.clock, self.spool, self.camera = clock, spool, camera
        self.ledger = SampleLedger(directory / "ledger.db", clock)
        self.ledger.begin(spool, [camera])
        self.account: CameraAccount = self.ledger.book.account(camera, Moment.now(clock))
        self.on_their_way: list[int] = []
        self.begin()

    def begin(self) -> None:
        after_us = self.account.resume_after_us
        if after_us is None:
            after_us = self.spool.captures_us[-1] if self.spool.captures_us else START_US - 1
        self.tick = 0 if after_us < START_US else after_us // SECOND_US + 1 - START_US // SECOND_US
        self.last_sent: int | None = None
        self.last_tick: int | None = None
        self.account.live(Moment.now(self.clock))

    def step(self) -> bool:
        """Takes one sample; False at the end."""
        if self.tick in HOLES and (self.last_tick is None or self.last_tick < self.tick):
            self.tick += HOLES[self.tick]
        if self.tick >= TICKS:
            return False
        capture_us = START_US + self.tick * SECOND_US
        skipped = 0 if self.last_tick is None else self.tick - self.last_tick - 1
        self.account.sampled(capture_us, skipped, Moment.now(self.clock))
        if self.tick in DAMAGED:
            self.account.outcome(capture_us, Dropped.ENCODE_ERROR)
        elif self.is_sent():
            self.last_sent = self.tick
            if not self.account.is_there(capture_us):
                self.account.outcome(capture_us, SENT)
                self.on_their_way.append(capture_us)
        else:
            self.account.outcome(capture_us, GateReason.NO_ACTIVITY)
        self.last_tick, self.tick = self.tick, self.tick + 1
        return True

    def is_sent(self) -> bool:
        return self.last_sent is None or self.tick - self.last_sent >= SENT_EVERY

    def store(self) -> None:
        for capture_us in self.on_their_way:
            self.spool.captures_us.append(capture_us)
            self.ledger.book.spooled([frame_at(capture_us, len(self.spool.captures_us), "monday")])
        self.on_their_way = []

    def lose_worker(self) -> None:
        self.account.worker_lost(Missed.WORKER_CRASHED, Moment.now(self.clock))
        self.begin()

    def switch_off_and_on(self) -> None:
        self.ledger.follow([])
        self.store()
        self.ledger.follow([self.camera])
        self.account = self.ledger.book.account(self.camera, Moment.now(self.clock))
        self.begin()

    def kill(self) -> None:
        self.ledger._database.close()

    def end(self) -> dict[int, Tally]:
        """Reads the rest; returns the ledger."""
        while self.step():
            pass
        self.store()
        self.account.finished(2)
        self.ledger.follow([])
        self.ledger.flush()
        told = {minute.minute_us: minute.tally for minute in self.ledger.untold(1000)}
        self.kill()
        return told


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 30)),
        st.tuples(st.sampled_from(["store", "flush", "kill", "crash", "stop", "switch"]), st.just(1)),
    ),
    max_size=30,
)


def interrupted(
    kind: type["Reading"], steps: list[tuple[str, int]], directory: Path, spool: Spooled
) -> dict[int, Tally]:
    """The ledger of a recording that was read with these interruptions."""
    clock = ManualClock()
    reading = kind(directory, clock, spool)
    for what, times in steps:
        clock.advance(1)
        match what:
            case "read":
                for _ in range(times):
                    reading.step()
            case "store":
                reading.store()
            case "flush":
                reading.ledger.flush()
            case "crash":
                reading.lose_worker()
            case "switch":
                reading.switch_off_and_on()
            case "stop":
                reading.store()
                reading.ledger.finish()
                reading.kill()
                reading = kind(directory, clock, spool)
            case "kill":
                reading.kill()
                reading = kind(directory, clock, spool)
    return reading.end()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_interrupts_it_the_ledger_and_the_frames_are_those_of_one_reading(
    steps: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        spool, whole = Spooled(), Spooled()
        (Path(directory) / "whole").mkdir()
        expected = Reading(Path(directory) / "whole", ManualClock(), whole).end()
        assert interrupted(Reading, steps, Path(directory), spool) == expected
        assert spool.captures_us == whole.captures_us
        assert sum(tally.expected for tally in expected.values()) == TICKS + 2


class Fickle(Reading):
    """Its gate has forgotten what it went by before it was interrupted."""

    def is_sent(self) -> bool:
        return (self.tick + len(self.spool.captures_us)) % 5 < 2


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_gate_that_judges_otherwise_the_second_time_neither_loses_nor_doubles_a_sample(
    steps: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        spool = Spooled()
        told = interrupted(Fickle, steps, Path(directory), spool)
        assert sum(tally.expected for tally in told.values()) == TICKS + 2
        assert sum(tally.sent for tally in told.values()) == len(spool.captures_us)
        assert spool.captures_us == sorted(set(spool.captures_us))


def test_another_recording_of_the_camera_is_read_from_its_own_beginning(tmp_path: Path, clock: ManualClock) -> None:
    spool = Spooled()
    reading = Reading(tmp_path, clock, spool)
    for _ in range(50):
        reading.step()
    reading.store()
    reading.ledger.flush()
    reading.kill()
    earlier = Recording(Path("/rec/sunday.mp4"), START_US - DAY_US)
    ledger = SampleLedger(tmp_path / "ledger.db", clock)
    camera = Camera("monday", "Monday", earlier, sample_interval_ms=1000)
    ledger.begin(spool, [camera])
    account = ledger.book.account(camera, Moment.now(clock))
    account.sampled(earlier.start_us, 0, Moment.now(clock))
    assert not account.is_there(earlier.start_us)
    account.outcome(earlier.start_us, GateReason.NO_ACTIVITY)
    assert account.counts().expected == 1
    assert account.resume_after_us == earlier.start_us - 1
    ledger.close()


@pytest.mark.parametrize("days", [40, 4000])
def test_what_was_recorded_long_ago_is_told_and_kept_as_long_as_what_is_new(
    days: int, tmp_path: Path, clock: ManualClock
) -> None:
    clock.jump((START_US - clock.now_us()) / SECOND_US + days * DAY_US / SECOND_US)
    reading = Reading(tmp_path, clock, Spooled())
    for _ in range(60):
        reading.step()
    reading.store()
    reading.ledger.flush()
    told = reading.ledger.untold(1000)
    assert {minute.minute_us for minute in told} == {START_US // MINUTE_US * MINUTE_US + n * MINUTE_US for n in (0, 1)}
    reading.ledger.told([mark(minute) for minute in told])
    kept = []
    for step_days in (6, 2):
        clock.advance(step_days * DAY_US / SECOND_US)
        reading.ledger.flush()
        kept.append(sum(tally.expected for tally in reading.ledger._database.sums(0).values()))
    reading.kill()
    assert kept == [60 + sum(HOLES.values()), 0]


def test_of_a_recording_whose_ledger_is_lost_what_follows_the_last_frame_is_told(
    tmp_path: Path, clock: ManualClock
) -> None:
    ledger = SampleLedger(tmp_path / "ledger.db", clock)
    ledger.begin(Spooled([START_US + 30 * SECOND_US]), [MONDAY])
    account = ledger.book.account(MONDAY, Moment.now(clock))
    assert account.resume_after_us is None, "the spool knows it"
    account.sampled(START_US + 31 * SECOND_US, 0, Moment.now(clock))
    account.outcome(START_US + 31 * SECOND_US, GateReason.NO_ACTIVITY)
    ledger.flush()
    assert [minute.tally.expected for minute in ledger.untold(10)] == [1]
    ledger.close()


def mark(minute: WrittenMinute) -> LedgerMark:
    return LedgerMark(minute.camera_id, minute.minute_us, minute.revision)
