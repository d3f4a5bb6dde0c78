"""The receiver asks for a longer interval: which samples that leaves, and that recordings take no notice."""

from pathlib import Path

from camera_rig import CollectingSink, RunningCamera, assert_balanced, eventually
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.capture.sampler import Sampler
from crow_daemon.capture.state import CameraState
from crow_daemon.registry.camera import Camera, Recording

START_US = 1_700_000_000_250_000


def test_a_recording_takes_no_notice(streams: dict[str, Path], sink: CollectingSink) -> None:
    camera = Camera("monday", "Monday", Recording(streams["h264"], START_US), sample_interval_ms=300)
    recording = RunningCamera(camera, sink, None)
    recording.follow_pace(60_000)
    with recording as runner:
        eventually(lambda: runner.snapshot().state is CameraState.FINISHED, "finished")
    assert len(sink.frames) == 14
    assert runner.snapshot().asked_interval_ms == 0
    assert_balanced(runner, sink)


@given(own_us=st.integers(33_000, 2_000_000), times=st.integers(1, 40), ticks=st.integers(10, 200))
def test_of_the_own_ticks_one_in_each_longer_interval_is_taken(own_us: int, times: int, ticks: int) -> None:
    longer = Sampler(own_us * times)
    taken = [tick for tick in range(ticks) if longer.take(START_US + tick * own_us) is not None]
    assert [(START_US + tick * own_us) // (own_us * times) for tick in taken] == sorted(
        {(START_US + tick * own_us) // (own_us * times) for tick in range(ticks)}
    )
