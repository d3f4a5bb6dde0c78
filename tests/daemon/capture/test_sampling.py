"""Sampler and capture time: pure, so tried with many inputs."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.capture_time import MAX_DEPARTURE_US, CaptureClock
from crow_daemon.capture.sampler import Sampler
from crow_shared.frame import TimeSource

SECOND_US = 1_000_000
NOW_US = 1_800_000_000 * SECOND_US

intervals_us = st.integers(33_000, 5 * SECOND_US)
steps_us = st.lists(st.integers(1, 3 * SECOND_US), min_size=1, max_size=200)


@given(intervals_us, steps_us)
def test_each_tick_that_has_pictures_gives_one_sample_and_the_others_are_reported(
    interval_us: int, steps: list[int]
) -> None:
    sampler = Sampler(interval_us)
    time_us, times = NOW_US, []
    for step in steps:
        time_us += step % (interval_us // 2) + 1  # never as rare as ticks
        times.append(time_us)
    taken = [(time_us, skipped) for time_us in times if (skipped := sampler.take(time_us)) is not None]
    ticks = [time_us // interval_us for time_us, _ in taken]
    assert ticks == sorted({time_us // interval_us for time_us in times})
    assert len(taken) + sum(skipped for _, skipped in taken) == ticks[-1] - ticks[0] + 1


@given(intervals_us, st.lists(st.integers(1, 9 * SECOND_US), min_size=1, max_size=200))
def test_samples_and_skipped_ticks_add_up_to_the_time_that_passed(interval_us: int, steps: list[int]) -> None:
    sampler, time_us, counted = Sampler(interval_us), NOW_US, 0
    sampler.take(time_us)
    for step in steps:
        time_us += step
        skipped = sampler.take(time_us)
        counted += 0 if skipped is None else 1 + skipped
    assert abs(counted - (time_us - NOW_US) / interval_us) <= 2


@given(st.integers(0, SECOND_US), st.lists(st.integers(-60_000, 60_000), min_size=2, max_size=100))
def test_keyframes_as_rare_as_ticks_are_all_sampled_wherever_in_the_ticks_they_lie(
    phase_us: int, jitter_us: list[int]
) -> None:
    sampler = Sampler(SECOND_US)
    times = [NOW_US + phase_us + number * SECOND_US + jitter for number, jitter in enumerate(jitter_us)]
    skipped = [sampler.take(time_us) for time_us in times]
    assert skipped.count(None) + sum(ticks or 0 for ticks in skipped) <= 1, "one slip at most, at the beginning"


def test_the_rate_does_not_drift_over_a_day_of_jittering_pictures() -> None:
    sampler = Sampler(SECOND_US)
    pictures = (NOW_US + number * 40_000 + number * 7919 % 15_000 for number in range(25 * 3600))
    assert sum(sampler.take(time_us) is not None for time_us in pictures) == 3600


def test_after_an_overrun_the_sampler_is_at_the_present_at_once() -> None:
    sampler = Sampler(SECOND_US)
    assert sampler.take(NOW_US) == 0
    assert sampler.take(NOW_US + 10 * SECOND_US) == 9
    assert sampler.take(NOW_US + 10 * SECOND_US + 1) is None


def test_a_clock_set_back_does_not_stop_the_samples() -> None:
    sampler = Sampler(SECOND_US)
    sampler.take(NOW_US)
    assert sampler.take(NOW_US - 3600 * SECOND_US) == 0
    assert sampler.take(NOW_US - 3599 * SECOND_US) == 0


def test_a_step_back_over_one_tick_boundary_gives_no_second_sample() -> None:
    sampler = Sampler(SECOND_US)
    sampler.take(NOW_US)
    assert sampler.take(NOW_US - 1) is None


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 900_000)), min_size=2, max_size=100))
def test_capture_times_rise_and_are_never_later_than_arrival(pictures: list[tuple[int, int]]) -> None:
    clock, stream_us, given_out = CaptureClock(), 0, []
    arrival_us = NOW_US
    for step_us, delay_us in pictures:
        stream_us += step_us
        arrival_us = max(arrival_us + 1, NOW_US + stream_us + delay_us)
        time_us, source = clock.time_of(stream_us, arrival_us)
        assert time_us <= arrival_us or time_us == given_out[-1] + 1
        assert source is TimeSource.ARRIVAL
        given_out.append(time_us)
    assert given_out == sorted(set(given_out))


def test_jitter_of_arrival_does_not_reach_the_capture_time() -> None:
    clock = CaptureClock()
    times = [clock.time_of(n * 40_000, NOW_US + n * 40_000 + n * 7919 % 30_000)[0] for n in range(100)]
    assert [after - before for before, after in itertools.pairwise(times)] == [40_000] * 99


def test_timestamps_that_jump_back_are_anchored_anew_and_counted() -> None:
    clock = CaptureClock()
    first, _ = clock.time_of(60 * SECOND_US, NOW_US)
    second, _ = clock.time_of(0, NOW_US + 40_000)
    third, _ = clock.time_of(40_000, NOW_US + 80_000)
    assert (second - first, third - second, clock.jumps) == (40_000, 40_000, 1)


def test_a_wall_clock_set_back_is_followed_and_counted() -> None:
    clock = CaptureClock()
    clock.time_of(0, NOW_US)
    time_us, _ = clock.time_of(40_000, NOW_US - 3600 * SECOND_US)
    assert time_us == NOW_US - 3600 * SECOND_US
    assert clock.jumps > 0


def test_a_departure_within_the_bound_leaves_the_anchor_alone() -> None:
    clock = CaptureClock()
    clock.time_of(0, NOW_US)
    time_us, _ = clock.time_of(40_000, NOW_US + 40_000 + MAX_DEPARTURE_US)
    assert (time_us, clock.jumps) == (NOW_US + 40_000, 0)
