"""Where a camera's thread is, so that one that hangs in foreign code is noticed from outside."""

from enum import StrEnum

from crow_daemon.registry.camera import Camera, Recording
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
_READING_A_FILE_S = 600.0  # which may lie on a slow disk, and of which a part may be passed over


class Checkpoint:
    """The last one that a camera's thread has passed. Written by that thread alone, read by any."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        """Waiting."""
        self._is_recording = isinstance(camera.source, Recording)
        self._clock = clock
        self._passed = (Phase.WAITING, clock.monotonic_s())  # replaced as one, so that it is read as one

    def passed(self, phase: Phase) -> None:
        """The thread begins something, or goes on with it."""
        self._passed = (phase, self._clock.monotonic_s())

    @property
    def phase(self) -> Phase:
        """What the thread is at."""
        return self._passed[0]

    def overdue(self) -> tuple[Phase, float] | None:
        """What the thread has been at for longer than is reasonable, and for how many seconds; None if all is well."""
        phase, since_s = self._passed
        lasts_s = self._clock.monotonic_s() - since_s
        reasonable_s = _REASONABLE_S.get(phase)
        if self._is_recording and phase in (Phase.OPENING, Phase.READING):
            reasonable_s = _READING_A_FILE_S
        return (phase, lasts_s) if reasonable_s is not None and lasts_s > reasonable_s else None
