"""The one door for frames: checked here, stored durably, then handed to their session.

Whoever brings a frame (a daemon's stream, a REST upload) gets an answer only after the commit. A frame that came long
after its capture, or drains a daemon's backlog, is stored as late: those that did not are analysed first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from crow_receiver.ingest.arriving import Arriving
from crow_receiver.ingest.picture import inspect_picture
from crow_receiver.ingest.room import DiskRoom
from crow_receiver.store import arrivals, cameras, ledger
from crow_receiver.store.arrivals import Arrival, Missing, StoredFrame
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.ledger import LedgerMinute
from crow_receiver.store.sessions import HOUR_US
from crow_receiver.store.store import Store, Transaction
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding, Frame
from crow_shared.identity import CameraKey

EARLIEST_US = 1_420_070_400_000_000  # 2015: a capture time before that is a clock that was never set
FUTURE_MOST_US = 24 * HOUR_US
LATE_US = 60_000_000


class Sessions(Protocol):
    """Those who want to know about stored frames."""

    def stored(self, camera: CameraRow, stored: StoredFrame) -> None:
        """A new frame of this camera is durable."""
        ...

    def covered(self, camera: CameraRow, session_ids: Sequence[str]) -> None:
        """What is known of this camera's samples has changed after these sessions have told of it."""
        ...


def checked_frame(frame: Frame, now_us: int) -> Frame:
    """The frame with its size as the picture's own header gives it.

    Raises CrowError: CORRUPT "checksum", INVALID "bad_time", what `inspect_picture` raises, and for a keyframe INVALID
    "wrong_size": its parameter sets are not those of the stream that it comes from.
    """
    if not frame.intact():
        raise CrowError(Kind.CORRUPT, "checksum", "the picture does not have the checksum it was sent with")
    if not EARLIEST_US <= frame.capture_us <= now_us + FUTURE_MOST_US:
        raise CrowError(
            Kind.INVALID,
            "bad_time",
            f"capture time {frame.capture_us} µs is before 2015 or more than a day ahead: check the clock it came from",
        )
    width, height = inspect_picture(frame.encoding, frame.payload)
    if frame.encoding is not Encoding.JPEG and (width, height) != (frame.width, frame.height):
        raise CrowError(
            Kind.INVALID,
            "wrong_size",
            f"the keyframe is of {width} x {height} pixels, and was sent as one of {frame.width} x {frame.height}",
        )
    return replace(frame, width=width, height=height)


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

    def checked(self, camera: CameraRow, frame: Frame, *, backlog: bool = False) -> Arrival:
        """A frame that has just come, fit to be stored. Raises CrowError as `checked_frame` does."""
        now_us = self._clock.now_us()
        late = backlog or now_us - frame.capture_us > LATE_US
        return Arrival(camera, checked_frame(frame, now_us), now_us, late)

    async def store_stream(self, epoch: str, arriving: Arriving) -> list[Arrival | Missing]:
        """Stores what a stream has brought by the time that the store begins with it, and moves the stream's position.

        All in one transaction; returns what that was, frames of an erased span as missing ones. Raises
        CrowError(UNAVAILABLE) when the disk has no room.
        """
        self._require_room()

        def work(tx: Transaction) -> tuple[list[Arrival | Missing], list[tuple[CameraRow, StoredFrame]]]:
            arrived = arrivals.without_erased(tx, arriving.take_all())
            return arrived, arrivals.store_stream(tx, epoch, arrived, self.gap_us)

        arrived, stored = await self._store.write(work)
        for camera, place in stored:
            self._sessions.stored(camera, place)
        return arrived

    async def single_frame(self, camera: CameraRow, epoch: str, frame: Frame) -> StoredFrame:
        """Checks and stores a frame that came by itself. Raises CrowError as `checked_frame` and `store_stream` do."""
        self._require_room()
        arrival = self.checked(camera, frame)
        stored = await self._store.write(lambda tx: arrivals.store_single(tx, epoch, arrival, self.gap_us))
        if not stored.duplicate:
            self._sessions.stored(camera, stored)
        return stored

    async def store_ledger(
        self, organization_id: str, site_id: str, minutes: Mapping[str, Sequence[LedgerMinute]]
    ) -> None:
        """Stores what a daemon of the site says of its samples, by camera id. A camera that nobody knows has no frames.

        Raises CrowError(UNAVAILABLE) when the disk has no room.
        """
        self._require_room()
        now_us = self._clock.now_us()

        def work(tx: Transaction) -> list[tuple[CameraRow, list[str]]]:
            changed = []
            for camera_id, told in minutes.items():
                row = cameras.find(tx.db, CameraKey(organization_id, site_id, camera_id))
                if row is not None:
                    changed.append((row, ledger.store_minutes(tx.db, row.id, told, now_us)))
            return changed

        for camera, session_ids in await self._store.write(work):
            self._sessions.covered(camera, session_ids)

    def _require_room(self) -> None:
        if self._room is not None:
            self._room.require()
