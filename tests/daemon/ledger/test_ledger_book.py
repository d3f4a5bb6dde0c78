"""Minutes of samples that add up, through clocks that jump and cameras whose time is not ours."""

from collections import Counter

import pytest
from camera_rig import rtsp_camera
from conftest import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from receiver_parts import frame_at

from crow_daemon.capture.outcome import SENT, Dropped, Missed
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger import book as book_module
from crow_daemon.ledger.account import CameraAccount
from crow_daemon.ledger.book import Book
from crow_daemon.ledger.tally import MINUTE_US, Counts, Tally, by_minute
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Moment

SECOND_US = 1_000_000


def till(interval_ms: int = 1000) -> Camera:
    return rtsp_camera("rtsp://camera/1", sample_interval_ms=interval_ms)


def opened(book: Book, clock: ManualClock, camera: Camera | None = None) -> CameraAccount:
    account = book.account(camera or till(), Moment.now(clock))
    account.live(Moment.now(clock))
    return account


def sample(book: Book, account: CameraAccount, clock: ManualClock, ahead_us: int = 0) -> None:
    """One that is sent and spooled at once."""
    capture_us = clock.now_us() + ahead_us
    account.sampled(capture_us, 0, Moment.now(clock))
    account.outcome(capture_us, SENT)
    book.spooled([frame_at(capture_us, 1, "till")])


def minutes(book: Book, clock: ManualClock) -> dict[int, Tally]:
    taken = book.take(Moment.now(clock))
    return {minute_us: tally for (_, minute_us), tally in taken.minutes.tallies.items()}


@given(st.integers(0, 10 * MINUTE_US), st.integers(33_000, 3 * MINUTE_US), st.integers(0, 500))
def test_samples_lie_in_the_minutes_in_which_they_are_due(first_us: int, interval_us: int, samples: int) -> None:
    one_by_one = Counter((first_us + number * interval_us) // MINUTE_US * MINUTE_US for number in range(samples))
    assert dict(by_minute(first_us, interval_us, samples)) == one_by_one


def test_an_outage_is_told_in_the_minutes_that_it_lasted(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    began_us = clock.now_us() // MINUTE_US * MINUTE_US
    sample(book, account, clock)
    clock.advance(1)
    account.no_stream(Missed.CAMERA_DOWN, Moment.now(clock))
    clock.advance(150)
    told = minutes(book, clock)
    assert sum(tally.expected for tally in told.values()) == 151
    assert {minute_us: tally.expected for minute_us, tally in told.items()} == Counter(
        (clock.now_us() - back * SECOND_US) // MINUTE_US * MINUTE_US for back in range(1, 152)
    )
    assert told[began_us].sent == 1


def test_what_is_missed_lies_in_the_cameras_own_time_like_its_samples(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    ahead_us = 40 * MINUTE_US
    sample(book, account, clock, ahead_us)
    clock.advance(1)
    account.no_stream(Missed.STALLED, Moment.now(clock))
    clock.advance(30)
    assert all(minute_us > clock.now_us() + 38 * MINUTE_US for minute_us in minutes(book, clock))


def test_a_sample_counts_once_its_outcome_is_known_and_its_frame_is_in_the_spool(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    capture_us = clock.now_us()
    account.sampled(capture_us, 0, Moment.now(clock))
    assert minutes(book, clock) == {}
    account.outcome(capture_us, SENT)
    assert minutes(book, clock) == {}
    assert account.counts().sent == 1
    book.spooled([frame_at(capture_us, 1, "till")])
    account.outcome(capture_us, SENT)  # told once more, by a worker whose frame had come before its word
    assert [tally.sent for tally in minutes(book, clock).values()] == [1]
    assert account.counts().expected == 1


def test_a_frame_in_the_spool_is_sent_though_its_worker_died_before_it_could_say_so(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    capture_us = clock.now_us()
    account.sampled(capture_us, 0, Moment.now(clock))
    book.spooled([frame_at(capture_us, 1, "till")])
    account.worker_lost(Missed.WORKER_CRASHED, Moment.now(clock))
    (tally,) = minutes(book, clock).values()
    assert (tally.expected, tally.sent) == (1, 1)
    assert account.counts() == tally.counts()


def test_at_the_end_of_the_daemon_nothing_stays_in_hand(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    for outcome in (None, SENT):
        account.sampled(clock.now_us(), 0, Moment.now(clock))
        if outcome:
            account.outcome(clock.now_us(), outcome)
        clock.advance(1)
    account.stopped(Moment.now(clock))
    book.close()
    (tally,) = minutes(book, clock).values()
    assert tally.dropped == {Dropped.STOPPED: 1, Dropped.SPOOL_UNAVAILABLE: 1}


def test_an_edited_camera_goes_on_in_its_account_and_follows_its_new_interval(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    account.no_stream(Missed.CAMERA_DOWN, Moment.now(clock))
    clock.advance(10)
    book.follow([till(500)], Moment.now(clock))
    assert book.account(till(500), Moment.now(clock)) is account
    clock.advance(10)
    assert sum(tally.expected for tally in minutes(book, clock).values()) == 10 + 20


def test_a_camera_that_was_switched_off_is_not_expected(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    clock.advance(5)
    book.follow([], Moment.now(clock))
    clock.advance(100)
    account.sampled(clock.now_us(), 0, Moment.now(clock))
    account.outcome(clock.now_us(), GateReason.NO_ACTIVITY)
    told = minutes(book, clock)
    assert sum(tally.dropped.total() for tally in told.values()) == 5
    assert sum(tally.gated.total() for tally in told.values()) == 1, "the last word of its runner"


def test_a_time_for_which_the_machine_slept_is_missed_without_its_daemon(clock: ManualClock) -> None:
    book = Book()
    opened(book, clock)
    clock.jump(600)  # the monotonic clock stood still
    book.slept(600, Moment.now(clock))
    told = minutes(book, clock)
    assert sum(tally.dropped[Missed.DAEMON_DOWN] for tally in told.values()) == 600
    assert min(told) <= clock.now_us() - 600 * SECOND_US


def test_a_clock_that_is_set_neither_makes_nor_loses_samples(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    for number in range(30):
        clock.jump({10: 3600, 20: -7200}.get(number, 0))
        sample(book, account, clock)
        clock.advance(1)
    assert sum(tally.expected for tally in minutes(book, clock).values()) == 30


def test_a_minute_says_what_was_wrong_with_the_picture_for_as_long_as_it_was(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    account.alert("black", Moment.now(clock))
    seen = []
    for word in (..., None, ...):
        clock.advance(60)
        if word is None:
            account.alert(None, Moment.now(clock))
        seen.append([tally.alerts for tally in minutes(book, clock).values()])
    assert seen == [[{"black"}, {"black"}], [], []]


def test_what_cannot_be_written_is_kept_up_to_a_bound_and_the_oldest_goes_first(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "MAX_UNWRITTEN_MINUTES", 3)
    book = Book()
    account = opened(book, clock)
    account.no_stream(Missed.CAMERA_DOWN, Moment.now(clock))
    for _ in range(5):
        clock.advance(60)
        book.put_back(book.take(Moment.now(clock)))
    kept = minutes(book, clock)
    assert len(kept) == 3
    assert max(kept) == (clock.now_us() - SECOND_US) // MINUTE_US * MINUTE_US


def late(book: Book, account: CameraAccount, clock: ManualClock, late_s: float) -> None:
    sample(book, account, clock, -round(late_s * SECOND_US))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sets(st.integers(0, 40)), st.booleans()), min_size=1, max_size=12),
    st.floats(0.0, 0.9),
)
def test_a_burst_after_a_stall_fills_the_places_of_its_samples_and_only_what_is_lost_is_missed(
    stalls: list[tuple[int, set[int], bool]], phase_s: float
) -> None:
    clock, book = ManualClock(), Book()
    account = opened(book, clock)
    clock.advance(phase_s)
    sent = lost = 0
    for stalled_s, lost_seconds, reconnects in stalls:
        for _ in range(30):
            sample(book, account, clock)
            sent += 1
            clock.advance(1)
        clock.advance(stalled_s)
        if reconnects:
            account.no_stream(Missed.STALLED, Moment.now(clock))
            account.live(Moment.now(clock))
        for second in range(stalled_s):
            if second in lost_seconds:
                lost += 1
            else:
                late(book, account, clock, stalled_s - second)
                sent += 1
    sample(book, account, clock)
    told = minutes(book, clock)
    assert sum(tally.sent for tally in told.values()) == sent + 1
    assert sum(tally.dropped.total() for tally in told.values()) == lost
    assert account.counts().expected == sent + 1 + lost
    whole = [told[minute_us].expected for minute_us in sorted(told)][1:-1]
    assert set(whole) <= {60}, "each minute has its own"


def test_an_hour_is_its_time_times_the_rate_though_words_of_workers_come_late(clock: ManualClock) -> None:
    book = Book()
    clock.jump((MINUTE_US - clock.now_us() % MINUTE_US) / SECOND_US)
    account = opened(book, clock)
    for number in range(3600):
        heard = Moment.now(clock)
        if number % 100 == 0:
            account.no_stream(Missed.STALLED, heard)
            clock.advance(4)
            minutes(book, clock)  # looks while the camera's word of what came meanwhile is under way
            account.live(heard)
            clock.advance(-4)
        account.sampled(clock.now_us(), 0, heard)
        account.outcome(clock.now_us(), GateReason.NO_ACTIVITY)
        clock.advance(1)
    assert account.counts() == Counts(3600, 0, {GateReason.NO_ACTIVITY: 3600}, {})


@given(st.integers(0, 900), st.lists(st.floats(0, 0.09), min_size=30, max_size=30))
def test_a_stream_whose_first_samples_come_in_a_burst_misses_none_later(held_ms: int, jitter_s: list[float]) -> None:
    """As a connection begins: what came while it was looked at comes at once, and sets no phase for what follows."""
    clock, book = ManualClock(), Book()
    account = opened(book, clock, till(interval_ms=200))
    account.no_stream(Missed.CONNECTING, Moment.now(clock))
    clock.advance(2)
    account.look(Moment.now(clock))
    account.live(Moment.now(clock))
    began_us = clock.now_us() - held_ms * 1000
    for number, late_s in enumerate(jitter_s):
        due_us = began_us + number * 200_000
        clock.advance(max(0.0, (due_us - clock.now_us()) / SECOND_US + late_s))
        account.sampled(due_us, 0, Moment.now(clock))
        account.outcome(due_us, SENT)
    assert set(account.counts().dropped) <= {Missed.CONNECTING}


def test_a_sample_that_comes_later_than_the_bound_is_one_more_and_takes_nothing_back(clock: ManualClock) -> None:
    book = Book()
    account = opened(book, clock)
    sample(book, account, clock)
    clock.advance(300)
    account.no_stream(Missed.STALLED, Moment.now(clock))
    for late_s in range(299, 99, -1):
        late(book, account, clock, late_s)
    kept = account.counts()
    assert kept.sent == 201
    assert kept.dropped[Missed.STALLED] == 299
