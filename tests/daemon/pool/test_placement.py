"""Which cameras share a worker, before and after one was lost."""

from pathlib import Path

import pytest
from camera_rig import rtsp_camera
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.pool.placement import LONGEST_WAIT_S, Group, Loss, LossReason, after, passes_on
from crow_daemon.registry.camera import Camera, CaptureMode, GateMode, ReaderChoice, Recording, Transport

CRASH = Loss(LossReason.CRASHED, "was killed by SIGSEGV")
AUTO = {"mode": CaptureMode.AUTO, "reader": ReaderChoice.AUTO, "sample_interval_ms": 1000}


@pytest.mark.parametrize(
    ("fields", "passed_on"),
    [
        ({}, True),
        ({"mode": CaptureMode.DECODE}, False),
        ({"reader": ReaderChoice.PYAV}, False),
        ({"gate": GateMode.ACTIVITY}, False),
        ({"masks": (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),)}, False),
        ({"transport": Transport.UDP}, False),
    ],
)
def test_what_needs_libav_does_not_share_a_worker_with_what_does_not(
    fields: dict[str, object], passed_on: bool
) -> None:
    assert passes_on(rtsp_camera("rtsp://camera/1", **AUTO | fields)) is passed_on


def test_a_recording_needs_libav() -> None:
    assert not passes_on(Camera("monday", "Monday", Recording(Path("/monday.mp4"), 0)))


def test_a_group_has_room_up_to_its_limit_unless_a_loss_is_fresh() -> None:
    decoded, passed_on = Group(passes_on=False), Group(passes_on=True)
    for number in range(2):
        assert decoded.has_room(2)
        decoded.cameras.add(f"cam{number}")
    assert not decoded.has_room(2)
    passed_on.cameras |= {f"cam{number}" for number in range(7)}
    assert passed_on.has_room(2)
    passed_on.strikes = 1
    assert not passed_on.has_room(2)


def test_the_camera_that_is_known_to_be_the_cause_is_parted_from_the_others() -> None:
    loss = Loss(LossReason.HUNG, "hung", culprit="b")
    assert [group.cameras for group in after(loss, Group(passes_on=False), "abcd")] == [{"b"}, {"a", "c", "d"}]


def test_a_worker_that_was_killed_from_outside_is_replaced_as_it_was() -> None:
    loss = Loss(LossReason.CRASHED, "was killed by SIGKILL", from_outside=True)
    assert [group.cameras for group in after(loss, Group(passes_on=False), "abcd")] == [set("abcd")]


@given(count=st.integers(1, 64), killer=st.integers(0, 63))
def test_one_that_keeps_killing_its_worker_is_alone_after_as_many_losses_as_halvings(count: int, killer: int) -> None:
    cameras = [f"{number:02}" for number in range(count)]
    name = cameras[killer % count]
    group, losses = Group(False, set(cameras)), 0
    while len(group.cameras) > 1:
        parts = after(CRASH, group, group.cameras)
        assert sorted(camera for part in parts for camera in part.cameras) == sorted(group.cameras)
        (group,) = (part for part in parts if name in part.cameras)
        losses += 1
    assert losses <= (count - 1).bit_length()
    assert group.losses == ({LossReason.CRASHED: losses} if losses else {})


def test_the_first_loss_costs_no_wait_and_further_ones_double_it_up_to_a_minute() -> None:
    group, waits_s = Group(False, {"a"}), []
    for _ in range(10):
        (group,) = after(CRASH, group, group.cameras)
        waits_s.append(group.wait_s)
    assert waits_s == [0, 1, 2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_cameras_that_are_not_wanted_any_more_are_in_no_group() -> None:
    assert after(CRASH, Group(False, {"a", "b"}), []) == []
