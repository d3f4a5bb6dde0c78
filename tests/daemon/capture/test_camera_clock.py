"""The camera's own clock against ours: used while it is near, told always, never a reason to go back in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.capture_time import _SKEW_HOLDS_US, MAX_DEPARTURE_US, MAX_SKEW_US, CaptureClock
from crow_shared.frame import TimeSource

SECOND_US = 1_000_000
NOW_US = 1_800_000_000 * SECOND_US
DELAY_US = 30_000  # from the lens to our clock


def played(clock: CaptureClock, seconds: int, *, ahead_us: int, start_s: int = 0) -> list[tuple[int, TimeSource]]:
    """Pictures once a second; the camera's clock is `ahead_us` ahead of ours."""
    times = []
    for number in range(start_s, start_s + seconds):
        taken_us = NOW_US + number * SECOND_US
        clock.camera_clock(NOW_US + ahead_us)
        times.append(clock.time_of(number * SECOND_US, taken_us + DELAY_US))
    return times


def test_a_camera_clock_that_is_near_gives_the_time_and_its_skew_is_told() -> None:
    clock = CaptureClock()
    times = played(clock, 10, ahead_us=400_000)
    assert times == [(NOW_US + number * SECOND_US + 400_000, TimeSource.CAMERA) for number in range(10)]
    assert clock.skew_us == 400_000 - DELAY_US
    assert clock.jumps == 0


def test_a_camera_clock_that_is_years_off_is_not_used_but_told() -> None:
    clock, years_us = CaptureClock(), 3 * 365 * 86_400 * SECOND_US
    times = played(clock, 3, ahead_us=-years_us)
    assert times[0] == (NOW_US + DELAY_US, TimeSource.ARRIVAL)
    assert clock.skew_us == -years_us - DELAY_US
    assert clock.jumps == 0


def test_a_camera_that_tells_no_time_has_no_skew() -> None:
    clock = CaptureClock()
    assert clock.time_of(0, NOW_US)[1] is TimeSource.ARRIVAL
    assert clock.skew_us is None


def test_a_camera_clock_that_jumps_is_left_at_once_and_taken_up_again_when_it_is_back() -> None:
    clock = CaptureClock()
    times = played(clock, 5, ahead_us=0)
    times += played(clock, 5, ahead_us=3600 * SECOND_US, start_s=5)
    assert (times[-1][1], clock.jumps) == (TimeSource.ARRIVAL, 1)
    times += played(clock, 5, ahead_us=0, start_s=10)
    assert times[-1][1] is TimeSource.CAMERA
    taken = [time_us for time_us, _ in times]
    assert all(abs(time_us - (NOW_US + n * SECOND_US)) <= DELAY_US for n, time_us in enumerate(taken))
    assert taken == sorted(set(taken))


def test_a_camera_at_the_border_does_not_go_back_and_forth() -> None:
    clock = CaptureClock()
    sources = []
    for number in range(60):
        skew_us = MAX_SKEW_US + (20_000 if number % 2 else -20_000)
        sources += [source for _, source in played(clock, 1, ahead_us=skew_us, start_s=number)]
    assert clock.jumps == 0
    assert set(sources) == {TimeSource.ARRIVAL}


def test_a_camera_whose_timestamps_run_slow_is_followed_without_a_jump() -> None:
    clock, last_us = CaptureClock(), 0
    for number in range(24 * 3600):  # a day at 50 parts in a million: 4.3 seconds
        arrival_us = NOW_US + number * SECOND_US
        last_us, _ = clock.time_of(round(number * SECOND_US * (1 - 50e-6)), arrival_us)
    assert clock.jumps == 0
    assert abs(last_us - arrival_us) < 10_000


def played_anew(clock: CaptureClock, seconds: int, *, ahead_us: int, start_s: int) -> list[tuple[int, TimeSource]]:
    """As `played`, in a connection of its own, whose first sender report comes after two seconds."""
    clock.connected()
    times = []
    for number in range(seconds):
        taken_us = NOW_US + (start_s + number) * SECOND_US
        if number == 2:
            clock.camera_clock(NOW_US + start_s * SECOND_US + ahead_us)
        times.append(clock.time_of(number * SECOND_US, taken_us + DELAY_US))
    return times


@pytest.mark.parametrize("ahead_us", [-900_000, -500_000, 700_000])
def test_a_camera_whose_clock_is_off_goes_on_in_its_time_when_it_is_connected_anew(ahead_us: int) -> None:
    clock = CaptureClock()
    times = played(clock, 5, ahead_us=ahead_us)
    times += played_anew(clock, 5, ahead_us=ahead_us, start_s=5)
    assert times == [(NOW_US + number * SECOND_US + ahead_us, TimeSource.CAMERA) for number in range(10)]


def test_a_connection_never_begins_before_the_end_of_the_one_before() -> None:
    clock = CaptureClock()
    before = played(clock, 5, ahead_us=0)
    after = played_anew(clock, 5, ahead_us=-900_000, start_s=4)
    assert before[-1][0] < after[0][0]


def test_a_camera_that_tells_no_time_any_more_is_timed_by_arrival_after_a_while() -> None:
    clock = CaptureClock()
    played(clock, 5, ahead_us=700_000)
    clock.connected()
    after_s = _SKEW_HOLDS_US // SECOND_US + 2
    sources = [clock.time_of(n * SECOND_US, NOW_US + (10 + n) * SECOND_US)[1] for n in range(after_s)]
    assert (sources[0], sources[-2], sources[-1]) == (TimeSource.CAMERA, TimeSource.CAMERA, TimeSource.ARRIVAL)
    assert clock.skew_us is None


def test_jumps_are_those_of_the_connection() -> None:
    clock = CaptureClock()
    played(clock, 3, ahead_us=0)
    played(clock, 3, ahead_us=3600 * SECOND_US, start_s=3)
    clock.connected()
    assert clock.jumps == 0


steps = st.tuples(
    st.integers(1, 3 * SECOND_US),  # since the last picture
    st.integers(0, SECOND_US),  # delay
    st.sampled_from([0, 0, 0, 0, -10 * SECOND_US, 3600 * SECOND_US, -(1 << 32) * 100 // 9]),  # jump of the timestamps
    st.sampled_from([0, 0, 0, 0, 5 * SECOND_US, -5 * SECOND_US, 3600 * SECOND_US]),  # the camera's clock is set
    st.integers(0, 9).map(lambda number: number == 0),  # it is connected anew
)


@given(pictures=st.lists(steps, min_size=2, max_size=80), tells_time=st.booleans())
def test_whatever_a_camera_does_to_its_clock_and_timestamps_times_rise_and_stay_near_arrival(
    pictures: list[tuple[int, int, int, int, bool]], *, tells_time: bool
) -> None:
    clock, taken_us, stream_us, ahead_us = CaptureClock(), NOW_US, 0, 0
    last_us = last_arrival_us = 0
    for step_us, delay_us, jump_us, set_us, anew in pictures:
        if anew:
            clock.connected()
            stream_us = 0
        taken_us, stream_us, ahead_us = taken_us + step_us, stream_us + step_us + jump_us, ahead_us + set_us
        if tells_time:
            clock.camera_clock(taken_us + ahead_us - stream_us)
        arrival_us = max(last_arrival_us + 1, taken_us + delay_us)
        time_us, _ = clock.time_of(stream_us, arrival_us)
        assert time_us > last_us
        assert abs(time_us - arrival_us) <= MAX_SKEW_US + MAX_DEPARTURE_US + 100
        last_us, last_arrival_us = time_us, arrival_us
