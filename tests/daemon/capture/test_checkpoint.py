"""A thread that hangs is told from one that waits for its camera, or for a busy machine."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from camera_rig import eventually, rtsp_camera
from conftest import ManualClock

from crow_daemon.capture.checkpoint import Checkpoint, Phase
from crow_daemon.registry.camera import Blur, Camera, GateMode, Recording

CAMERA = rtsp_camera("rtsp://camera/1")
RECORDING = Camera("monday", "Monday", Recording(Path("/monday.mp4"), 0))


class CameraThread:
    """Passes a checkpoint, and then spins or waits until the test ends."""

    def __init__(self, camera: Camera, phase: Phase, clock: ManualClock) -> None:
        self.checkpoint = Checkpoint(camera, clock)
        self._phase = phase
        self._passed, self._end = threading.Event(), threading.Event()

    def begin(self, work: Callable[[threading.Event], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()
        assert self._passed.wait(10)

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self, work: Callable[[threading.Event], object]) -> None:
        self.checkpoint.passed(self._phase)
        self._passed.set()
        work(self._end)


ThreadOf = Callable[[Camera, Phase], CameraThread]


@pytest.fixture
def thread_of(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadOf]:
    short = dict.fromkeys((Phase.OPENING, Phase.READING, Phase.PROCESSING, Phase.CLOSING), 0.05)
    monkeypatch.setattr("crow_daemon.capture.checkpoint._BUSY_S", short)
    made: list[CameraThread] = []

    def make(camera: Camera, phase: Phase) -> CameraThread:
        made.append(CameraThread(camera, phase, clock))
        return made[-1]

    yield make
    for thread in made:
        thread.end()


def spins(end: threading.Event) -> None:
    while not end.is_set():
        pass


@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.READING, Phase.PROCESSING, Phase.CLOSING])
def test_a_thread_that_burns_its_time_is_overdue_although_hardly_any_has_passed(
    thread_of: ThreadOf, phase: Phase
) -> None:
    thread = thread_of(CAMERA, phase)
    thread.begin(spins)
    eventually(lambda: thread.checkpoint.overdue() == (phase, 0.0), "noticed")


def test_a_thread_that_waits_is_given_the_time_that_a_slow_camera_takes(
    thread_of: ThreadOf, clock: ManualClock
) -> None:
    thread = thread_of(CAMERA, Phase.READING)
    thread.begin(lambda end: end.wait())
    clock.advance(80)
    assert thread.checkpoint.overdue() is None
    clock.advance(20)
    assert thread.checkpoint.overdue() == (Phase.READING, 100)


@pytest.mark.parametrize(
    ("camera", "phase"),
    [
        (RECORDING, Phase.READING),
        (replace(CAMERA, gate=GateMode.PERSON), Phase.PROCESSING),
        (replace(CAMERA, blur=Blur.PEOPLE), Phase.PROCESSING),
        (CAMERA, Phase.WAITING),
    ],
)
def test_what_takes_long_by_its_nature_is_no_hang(thread_of: ThreadOf, camera: Camera, phase: Phase) -> None:
    thread, other = thread_of(camera, phase), thread_of(CAMERA, Phase.READING)
    thread.begin(spins)
    other.begin(spins)
    eventually(lambda: other.checkpoint.overdue() is not None, "time was burnt")
    assert thread.checkpoint.overdue() is None


def test_a_thread_that_has_ended_is_not_overdue(thread_of: ThreadOf) -> None:
    thread = thread_of(CAMERA, Phase.READING)
    thread.begin(lambda _: None)
    thread.end()
    assert thread.checkpoint.overdue() is None
