"""How many frames a worker may take: a window that opens again as frames come, while the spool's line has room.

Invariants
1. What a worker took against its credit is taken over, however full the line is by then. So the line may outgrow its
   bound by the windows of all workers, and by nothing else.
2. All windows together hold `ALL_BYTES` at most, but each at least two of the largest pictures, and there is always
   credit for one of these while the line has room. None holds more than what one report carries.
"""

from typing import Protocol

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.capture.outcome import Dropped
from crow_daemon.worker.wire.framing import MAX_PICTURES_BYTES, violation
from crow_shared.frame import MAX_PICTURE_BYTES, Frame

FRAMES = 64
ALL_BYTES = 64 << 20
LEAST_BYTES = 2 * MAX_PICTURE_BYTES


class Line(Protocol):
    """Where frames wait for the disk."""

    def offer(self, frame: Frame) -> bool:
        """Takes the frame; not any more when all ends."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for."""
        ...

    @property
    def takes_recordings(self) -> bool:
        """Whether frames of recordings may come, too."""
        ...

    @property
    def refusal(self) -> Dropped:
        """Why there is no room at present."""
        ...

    def last_capture_us(self, camera_id: str) -> int | None:
        """When the camera's last frame that was offered, ever, was captured; None where there was none."""
        ...


class Window:
    """Of one worker."""

    def __init__(self, line: Line) -> None:
        """Closed."""
        self._line = line
        self._taken_frames = 0
        self._taken_bytes = 0
        self._told = pb.Credit()

    def take(self, picture_bytes: int) -> None:
        """A frame has come. Raises CrowError(CORRUPT) where there was no credit for it."""
        self._taken_frames += 1
        self._taken_bytes += picture_bytes
        if self._taken_frames > self._told.frames or self._taken_bytes > self._told.bytes:
            raise violation("a frame without credit")

    def credit(self, workers: int) -> pb.Credit | None:
        """What to tell the worker, one of so many, anew; None while it knows."""
        line, told = self._line, self._told
        window_bytes = max(LEAST_BYTES, min(MAX_PICTURES_BYTES, ALL_BYTES // workers))
        fresh = pb.Credit(frames=told.frames, bytes=told.bytes, refusal=line.refusal, recordings=line.takes_recordings)
        is_low = told.frames - self._taken_frames < FRAMES // 2 or told.bytes - self._taken_bytes < window_bytes // 2
        if is_low and line.has_room:
            fresh.frames = self._taken_frames + FRAMES
            fresh.bytes = max(told.bytes, self._taken_bytes + window_bytes)
        if fresh == told:
            return None
        self._told = fresh
        return fresh
