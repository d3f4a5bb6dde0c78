"""The one door for frames: checked here, stored durably, then handed to their session.

Whoever brings a frame (a daemon's stream, a REST upload) gets an answer only after the commit. A frame that came long
after its capture, or drains a daemon's backlog, is stored as late: those that did not are analysed first.
"""

from dataclasses import replace
from typing import Protocol

from crow_receiver.ingest.picture import inspect_jpeg
from crow_receiver.ingest.room import DiskRoom
from crow_receiver.store import cameras, frames
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.frames import StoredFrame
from crow_receiver.store.sessions import HOUR_US
from crow_receiver.store.store import Store, Transaction
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame

EARLIEST_US = 1_420_070_400_000_000  # 2015: a capture time before that is a clock that was never set
FUTURE_MOST_US = 24 * HOUR_US
LATE_US = 60_000_000


class Sessions(Protocol):
    """Those who want to know about stored frames."""

    def stored(self, camera: CameraRow, stored: StoredFrame) -> None:
        """A new frame of this camera is durable."""
        ...


def checked_frame(frame: Frame, now_us: int) -> Frame:
    """The frame with its size as the picture's own header gives it.

    Raises CrowError: CORRUPT "checksum", INVALID "bad_time", and what `inspect_jpeg` raises.
    """
    if not frame.intact():
        raise CrowError(Kind.CORRUPT, "checksum", "the picture does not have the checksum it was sent with")
    if not EARLIEST_US <= frame.capture_us <= now_us + FUTURE_MOST_US:
        raise CrowError(
            Kind.INVALID,
            "bad_time",
            f"capture time {frame.capture_us} µs is before 2015 or more than a day ahead: check the clock it came from",
        )
    width, height = inspect_jpeg(frame.payload)
    return replace(frame, width=width, height=height)


def _is_late(frame: Frame, now_us: int) -> bool:
    return now_us - frame.capture_us > LATE_US


class Intake:
    """Stores frames and tells their sessions."""

    def __init__(
        self, store: Store, sessions: Sessions, clock: Clock, gap_us: int, room: DiskRoom | None = None
    ) -> None:
        """Without `room` frames are taken for as long as the disk does."""
        self._store = store
        self._room = room
        self._sessions = sessions
        self._clock = clock
        self.gap_us = gap_us

    async def stream_frame(self, camera: CameraRow, epoch: str, frame: Frame, *, late: bool) -> StoredFrame:
        """Stores a checked frame of a daemon's stream and advances the stream, in one transaction.

        `late`: it comes from a backlog, whatever its age. Raises CrowError(UNAVAILABLE) when the disk has no room.
        """
        self._require_room()
        now_us = self._clock.now_us()
        late = late or _is_late(frame, now_us)

        def work(tx: Transaction) -> StoredFrame:
            return frames.advance_past(tx, camera, epoch, frame, now_us, self.gap_us, late=late)

        return self._told(camera, await self._store.write(work))

    async def single_frame(self, camera: CameraRow, epoch: str, frame: Frame) -> StoredFrame:
        """Checks and stores a frame that came by itself. Raises CrowError as `checked_frame` and `stream_frame` do."""
        self._require_room()
        now_us = self._clock.now_us()
        checked = checked_frame(frame, now_us)

        def work(tx: Transaction) -> StoredFrame:
            return frames.store_frame(tx, camera, epoch, checked, now_us, self.gap_us, late=_is_late(checked, now_us))

        return self._told(camera, await self._store.write(work))

    async def missing(
        self, camera: CameraRow, epoch: str, from_seq: int, to_seq: int, reason: str, detail: str
    ) -> None:
        """Records numbers of a stream that have no frame, and advances the stream past them."""
        now_us = self._clock.now_us()

        def work(tx: Transaction) -> None:
            cameras.pass_over(tx.db, camera.id, epoch, from_seq, to_seq, reason, detail, now_us)

        await self._store.write(work)

    def _require_room(self) -> None:
        if self._room is not None:
            self._room.require()

    def _told(self, camera: CameraRow, stored: StoredFrame) -> StoredFrame:
        if not stored.duplicate:
            self._sessions.stored(camera, stored)
        return stored
