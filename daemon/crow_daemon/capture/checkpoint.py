"""Where a camera's thread is, so that one that hangs in foreign code is noticed from outside.

One that hangs burns its processor's time, as a decoder does that runs in circles, or waits for ever. The first is told
within seconds by the thread's own CPU clock, which stands still while a camera is waited for and while a busy machine
lets the thread wait. The second looks like a camera that is slow, so it takes as long as that may.
"""

import sys
import threading
import time
from enum import StrEnum

from crow_daemon.registry.camera import Blur, Camera, GateMode, Recording
from crow_shared.clock import Clock


class Phase(StrEnum):
    """What the thread is at."""

    WAITING = "waiting"  # until the next attempt, or for its end
    OPENING = "opening"
    READING = "reading"  # until the next picture
    PROCESSING = "processing"  # a picture, which it has in hand
    CLOSING = "closing"


_REASONABLE_S = {
    Phase.OPENING: 90.0,  # its time-outs add up to some 20 s; looking up a name has the resolver's own
    Phase.READING: 90.0,  # sources give up after 30 s without a whole picture
    Phase.PROCESSING: 30.0,
    Phase.CLOSING: 30.0,
}
# Of CPU time: a keyframe of 4K takes tenths of a second.
_BUSY_S = {Phase.OPENING: 10.0, Phase.READING: 2.5, Phase.PROCESSING: 2.5, Phase.CLOSING: 2.5}
_LOOKING_FOR_PEOPLE_S = 30.0  # a large detector on a small board, and what loading it takes
_READING_A_FILE_S = 600.0  # which may lie on a slow disk, and of which a part may be passed over


class Checkpoint:
    """The last one that a camera's thread has passed. Written by that thread alone, read by any."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        """Waiting."""
        self._is_recording = isinstance(camera.source, Recording)
        self._clock = clock
        self._busy_s = dict(_BUSY_S)
        if self._is_recording:  # as fast as it can, and it may be long
            self._busy_s[Phase.OPENING] = self._busy_s[Phase.READING] = _READING_A_FILE_S
        if camera.gate is GateMode.PERSON or camera.blur is not Blur.OFF:
            self._busy_s[Phase.PROCESSING] = _LOOKING_FOR_PEOPLE_S
        self._cpu_clock: int | None = None  # of the camera's thread
        self._passed = (Phase.WAITING, clock.monotonic_s(), 0.0)  # replaced as one, so that it is read as one

    def passed(self, phase: Phase) -> None:
        """The thread begins something, or goes on with it."""
        if self._cpu_clock is None and sys.platform == "linux":
            self._cpu_clock = time.pthread_getcpuclockid(threading.get_ident())
        self._passed = (phase, self._clock.monotonic_s(), time.thread_time())

    @property
    def phase(self) -> Phase:
        """What the thread is at."""
        return self._passed[0]

    def overdue(self) -> tuple[Phase, float] | None:
        """What the thread has been at for longer than is reasonable, and for how many seconds; None if all is well."""
        phase, since_s, cpu_since_s = self._passed
        lasts_s = self._clock.monotonic_s() - since_s
        if phase in self._busy_s and self._cpu_s(cpu_since_s) - cpu_since_s > self._busy_s[phase]:
            return phase, lasts_s
        reasonable_s = _REASONABLE_S.get(phase)
        if self._is_recording and phase in (Phase.OPENING, Phase.READING):
            reasonable_s = _READING_A_FILE_S
        return (phase, lasts_s) if reasonable_s is not None and lasts_s > reasonable_s else None

    def _cpu_s(self, otherwise_s: float) -> float:
        if self._cpu_clock is None:
            return otherwise_s
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:  # the thread has ended
            return otherwise_s
