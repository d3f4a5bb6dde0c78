"""Whether keyframes come often enough: found out soon, changed with the stream, never back and forth for long."""

import itertools

from crow_daemon.capture.rhythm import KeyframeRhythm

SECOND_US = 1_000_000


def follow(rhythm: KeyframeRhythm, distances_s: list[float], start_us: int = 0) -> int:
    """Tells of keyframes at these distances; returns the time of the last one."""
    at_us = start_us
    rhythm.keyframe(at_us)
    for distance_s in distances_s:
        at_us += round(distance_s * SECOND_US)
        rhythm.keyframe(at_us)
    return at_us


def test_it_is_not_known_before_three_distances() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    at_us = follow(rhythm, [1, 1])
    assert rhythm.enough is None
    rhythm.keyframe(at_us + SECOND_US)
    assert rhythm.enough is True


def test_one_distance_that_costs_a_sample_is_too_many() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    follow(rhythm, [1, 1, 1, 1, 2])
    assert rhythm.enough is False
    assert rhythm.longest_us == 2 * SECOND_US


def test_jitter_and_the_odd_frame_rate_of_ntsc_are_no_reason_to_change() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    follow(rhythm, [1.001, 1.04, 0.96, 1.001, 1.1, 0.9] * 20)
    assert rhythm.enough is True


def test_keyframes_a_little_too_rare_on_the_average_are_not_enough() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    follow(rhythm, [1.1] * 20)
    assert rhythm.enough is False


def test_a_hole_is_no_distance() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    at_us = follow(rhythm, [1, 1, 1, 1])
    rhythm.hole()
    follow(rhythm, [1, 1], at_us + 30 * SECOND_US)
    assert rhythm.enough is True


def test_timestamps_that_jump_are_no_distance_either() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    for jump_us in (-3600 * SECOND_US, 47_721 * SECOND_US, 0):
        at_us = follow(rhythm, [1, 1, 1, 1])
        follow(rhythm, [1, 1], at_us + jump_us)
        assert rhythm.enough is True


def test_a_stream_that_changes_is_followed_both_ways() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    at_us = follow(rhythm, [1] * 5)
    at_us = follow(rhythm, [4] * 5, at_us + SECOND_US)
    assert rhythm.enough is False
    follow(rhythm, [1] * 30, at_us + SECOND_US)
    assert rhythm.enough is True


def test_a_stream_that_keeps_changing_is_followed_ever_more_rarely() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    seen = []
    at_us = 0
    for _ in range(600):
        at_us = follow(rhythm, [1] * 20, at_us + 4 * SECOND_US)
        seen.append(rhythm.enough)
    changes = sum(before != after for before, after in itertools.pairwise(seen))
    assert changes <= 4
    assert seen[-1] is False


def test_keyframes_that_cannot_serve_are_not_taken_up_again_for_long() -> None:
    rhythm = KeyframeRhythm(SECOND_US)
    at_us = follow(rhythm, [1] * 5)
    rhythm.cannot_serve("decode to nothing")
    at_us = follow(rhythm, [1] * 900, at_us + SECOND_US)
    assert (rhythm.enough, rhythm.useless) == (False, "decode to nothing")
    follow(rhythm, [1] * 200, at_us + SECOND_US)
    assert (rhythm.enough, rhythm.useless) == (True, None)
