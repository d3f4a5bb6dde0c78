"""Sampler, capture time and keyframe policy: pure, so tried with many inputs."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.capture_time import MAX_DEPARTURE_US, CaptureClock
from crow_daemon.capture.keyframes import Decode, KeyframePolicy
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
        time_us += step
        times.append(time_us)
    taken = [(time_us, skipped) for time_us in times if (skipped := sampler.take(time_us)) is not None]
    ticks = [time_us // interval_us for time_us, _ in taken]
    assert ticks == sorted({time_us // interval_us for time_us in times})
    assert len(taken) + sum(skipped for _, skipped in taken) == ticks[-1] - ticks[0] + 1


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


def test_the_cameras_own_clock_is_used_while_it_is_within_a_minute() -> None:
    clock = CaptureClock()
    clock.camera_clock(NOW_US - 30 * SECOND_US)
    assert clock.time_of(0, NOW_US) == (NOW_US - 30 * SECOND_US, TimeSource.CAMERA)


def test_a_camera_clock_that_is_years_off_is_not_believed() -> None:
    clock = CaptureClock()
    clock.camera_clock(NOW_US - 3 * 365 * 86_400 * SECOND_US)
    assert clock.time_of(0, NOW_US) == (NOW_US, TimeSource.ARRIVAL)


def test_a_departure_within_the_bound_leaves_the_anchor_alone() -> None:
    clock = CaptureClock()
    clock.time_of(0, NOW_US)
    time_us, _ = clock.time_of(40_000, NOW_US + 40_000 + MAX_DEPARTURE_US)
    assert (time_us, clock.jumps) == (NOW_US + 40_000, 0)


def stream(policy: KeyframePolicy, seconds: float, *, gop: int, fps: int = 10, start: int = 0) -> list[Decode]:
    """Decisions on a stream whose every `gop`-th packet is a keyframe."""
    decisions = []
    for number in range(start, start + round(seconds * fps)):
        stream_us = number * SECOND_US // fps
        decisions.append(policy.decide(is_key=number % gop == 0, stream_us=stream_us))
        if decisions[-1] is not Decode.SKIP:
            policy.decoded(NOW_US + stream_us)
    return decisions


def test_with_a_keyframe_per_interval_only_keyframes_are_decoded() -> None:
    decisions = stream(KeyframePolicy(SECOND_US), 60, gop=10)
    assert decisions[:30] == [Decode.IN_ORDER] * 30
    assert decisions[30:] == ([Decode.ALONE] + [Decode.SKIP] * 9) * 57


def test_with_rare_keyframes_everything_is_decoded() -> None:
    assert set(stream(KeyframePolicy(SECOND_US), 60, gop=20)) == {Decode.IN_ORDER}


def test_a_keyframe_that_stays_away_brings_full_decoding_back_with_the_next_one() -> None:
    policy = KeyframePolicy(SECOND_US)
    stream(policy, 10, gop=10)
    decisions = stream(policy, 12, gop=60, start=101)
    late = decisions.index(Decode.IN_ORDER)
    assert (101 + late) % 60 == 0
    assert set(decisions[:late]) == {Decode.SKIP}
    assert set(decisions[late:]) == {Decode.IN_ORDER}


def test_a_tick_without_a_keyframe_ends_keyframes_alone() -> None:
    policy = KeyframePolicy(SECOND_US)
    for number in range(2000):  # 1.001 seconds apart, as with 29.97 pictures a second
        stream_us = number * 1_001_000
        policy.decide(is_key=True, stream_us=stream_us)
        policy.decoded(NOW_US + 500_000 + stream_us)
        if number == 10:
            assert policy.keyframes_alone
    assert not policy.keyframes_alone


def test_keyframes_that_decode_to_nothing_end_keyframes_alone() -> None:
    policy = KeyframePolicy(SECOND_US)
    stream(policy, 10, gop=10)
    policy.give_up()
    assert Decode.ALONE not in stream(policy, 30, gop=10, start=100)
