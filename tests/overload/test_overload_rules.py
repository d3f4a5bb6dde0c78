"""The rules alone, against frames that an engine of some speed works off: they settle, are bounded, recover."""

from collections import deque

import pytest
from conftest import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_receiver.overload.rules import PATIENCE_MOST_S, CameraPace, Room, SteadyTime
from crow_receiver.settings import OverloadSettings

POLICY = OverloadSettings()
HOUR_S = 3600


class Camera:
    """Frames of one camera, second by second, and an engine for it alone."""

    def __init__(self, interval_ms: int, engine_s: float, rule: CameraPace) -> None:
        self.interval_ms, self.engine_s, self.rule = interval_ms, engine_s, rule
        self.now_s = 1000.0
        self.line: deque[float] = deque()
        self.next_capture_s = self.free_s = self.now_s
        self.asked_ms = 0
        self.changes: list[float] = []
        self.most_behind_s = 0.0

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            while self.next_capture_s <= self.now_s:
                self.line.append(self.next_capture_s)
                self.next_capture_s += (self.asked_ms or self.interval_ms) / 1000
            while self.line and self.free_s <= self.now_s:
                self.free_s = max(self.free_s, self.line.popleft()) + self.engine_s
            behind_s = self.now_s - self.line[0] if self.line else 0.0
            self.most_behind_s = max(self.most_behind_s, behind_s)
            asked_ms = self.rule.interval_ms(self.now_s, self.interval_ms, behind_s, len(self.line))
            if asked_ms != self.asked_ms:
                self.changes.append(self.now_s)
                self.asked_ms = asked_ms
            self.now_s += 1.0


intervals_ms = st.sampled_from([100, 250, 500, 1000, 2000, 3000])


@settings(max_examples=40, deadline=None)
@given(interval_ms=intervals_ms, engine_s=st.floats(0.01, 30))
def test_at_a_constant_speed_changes_become_rare(interval_ms: int, engine_s: float) -> None:
    camera = Camera(interval_ms, engine_s, CameraPace(POLICY))
    camera.run(2 * HOUR_S)
    settled = len(camera.changes)
    camera.run(2 * HOUR_S)
    attempts = 2 * HOUR_S / PATIENCE_MOST_S
    assert len(camera.changes) - settled <= 2 * attempts + 2
    assert camera.asked_ms <= POLICY.longest_interval_s * 1000


@settings(max_examples=40, deadline=None)
@given(interval_ms=st.sampled_from([100, 250, 500, 1000]), slower=st.floats(0.1, 3))
def test_an_engine_up_to_three_times_too_slow_costs_samples_and_never_a_frame(interval_ms: int, slower: float) -> None:
    camera = Camera(interval_ms, slower * interval_ms / 1000, CameraPace(POLICY))
    camera.run(2 * HOUR_S)
    assert camera.most_behind_s < POLICY.shed_after_s


@settings(max_examples=40, deadline=None)
@given(interval_ms=intervals_ms, engine_s=st.floats(0.5, 30), overload_s=st.integers(60, 2 * HOUR_S))
def test_a_camera_gets_its_own_interval_back_when_the_engine_is_fast_again(
    interval_ms: int, engine_s: float, overload_s: int
) -> None:
    camera = Camera(interval_ms, engine_s, CameraPace(POLICY))
    camera.run(overload_s)
    camera.engine_s = 0.02
    camera.line.clear()
    camera.run(8 * PATIENCE_MOST_S)
    assert camera.asked_ms == 0


@settings(max_examples=20, deadline=None)
@given(interval_ms=intervals_ms, share=st.floats(0.01, 0.7))
def test_an_engine_that_keeps_up_is_left_alone(interval_ms: int, share: float) -> None:
    camera = Camera(interval_ms, share * interval_ms / 1000, CameraPace(POLICY))
    camera.run(HOUR_S)
    assert camera.changes == []


def test_without_patience_a_speed_between_two_intervals_would_swing_for_ever() -> None:
    """The control: the same camera under a rule that never learns."""
    learning = Camera(1000, 1.5, CameraPace(POLICY))
    rule = CameraPace(POLICY)
    forgetful = Camera(1000, 1.5, rule)
    for _ in range(4 * HOUR_S):
        learning.run(1)
        rule._patience_s = 60.0
        forgetful.run(1)
    assert len(forgetful.changes) > 2 * len(learning.changes)


@pytest.mark.parametrize(
    ("policy", "interval_ms"),
    [(OverloadSettings(degrade_after_s=0), 1000), (POLICY, 0), (POLICY, 8000)],
    ids=["switched off", "cannot be asked", "twice would be too long"],
)
def test_a_camera_that_cannot_be_degraded_is_left_alone(policy: OverloadSettings, interval_ms: int) -> None:
    rule = CameraPace(policy)
    assert {rule.interval_ms(second, interval_ms, second, second) for second in range(600)} == {0}


def test_the_backlog_stops_at_half_of_the_bound_and_both_open_well_below_it() -> None:
    room = Room(100)
    seen = []
    for waiting in (49, 50, 99, 100, 95, 90, 89, 50, 45, 44):
        room.update(waiting)
        seen.append((room.live, room.backlog))
    assert seen == [
        (True, True), (True, False), (True, False), (False, False), (False, False),
        (False, False), (True, False), (True, False), (True, False), (True, True),
    ]  # fmt: skip
    assert not Room(0).update(10**9)


def test_a_clock_that_jumps_ahead_starts_the_time_anew_and_one_that_is_set_back_does_not() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock.now_us(), clock.monotonic_s())
    seen = []
    for jump_s in (0, -3600, 0, 3600, 0):
        clock.advance(100)
        clock.jump(jump_s)
        seen.append(steady.steady_s(clock.now_us(), clock.monotonic_s()))
    assert seen == [100, 200, 300, 0, 100]
