"""The spool: frames on disk from the moment they are promised until the receiver has them on its own disk.

Invariants
1. A frame that `append` returned is durable: picture synced first, then its index row committed.
2. Numbers of a camera rise by one without gaps within an epoch, across restarts. A number is given out once.
3. Pictures take at most `max_bytes`, give or take one segment: the oldest segment is let go first.
4. A frame leaves the index in one of two ways. Released: the receiver has it. Given up: a hole with its reason takes
   its place and a counter rises, in the transaction that forgets it. The uplink reports holes: no number just vanishes.
5. A segment file is unlinked only when no row points into it. Files without rows are removed when the spool opens.

Crash at any step: picture bytes without a row are garbage and never read; a row without its bytes cannot be, by 1.

Segments with an SQLite index, rather than SQLite blobs or LMDB: bytes are written once (flash wear), space comes back
by unlinking, and there is no record format to parse after a crash. One thread at a time may use a Spool.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from crow_daemon.spool.migrations import migrations
from crow_shared.database import open_database, transaction, translated_errors
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding, Frame, TimeSource
from crow_shared.segments import SEGMENT_BYTES, Pointer, SegmentStore

_COLUMNS = (
    'position, camera_id, seq, capture_us, time_source, encoding, width, height, segment, "offset", length, crc32'
)

# From one segment to the next by the index: `select distinct` would look at every frame that waits.
_SEGMENTS_IN_USE = """
    with recursive used (segment) as (
        select min(segment) from frame
        union all select (select min(segment) from frame where segment > used.segment) from used
            where used.segment is not null)
    select segment from used where segment is not null"""


class HoleReason(StrEnum):
    """Why numbers of a camera will not be sent."""

    SPOOL_FULL = "spool_full"
    CORRUPT = "corrupt"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SpooledFrame:
    """A frame and its place in the order of spooling."""

    position: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers from `from_seq` to `to_seq`, both inclusive, that will not be sent."""

    camera_id: str
    from_seq: int
    to_seq: int
    reason: HoleReason
    detail: str


@dataclass(frozen=True, slots=True)
class CameraMark:
    """How far a camera has come: numbers given out, and numbers durable at the receiver or given up."""

    camera_id: str
    last_seq: int
    acked_seq: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames of one camera that were given up for one reason since the spool was made."""

    camera_id: str
    reason: HoleReason
    frames: int
    last_detail: str


class Spool:
    """The durable buffer of one daemon."""

    def __init__(self, directory: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Opens the spool in `directory`, made if missing. Raises CrowError(UNAVAILABLE) when it cannot be used."""
        self._max_bytes = max_bytes
        # The segments first, since they keep a second daemon out.
        self._segments = SegmentStore(directory / "segments", min(segment_bytes, max(max_bytes // 4, 1)))
        self._db = open_database(directory / "index.db", migrations)
        self.epoch = str(self._db.execute("select epoch from spool").fetchone()[0])
        self._bytes = int(self._db.execute("select coalesce(sum(length), 0) from frame").fetchone()[0])
        self._unlink_empty()

    @property
    def stored_bytes(self) -> int:
        """Bytes of the pictures that wait here."""
        return self._bytes

    @property
    def half_full(self) -> bool:
        """Whether more than half of the bound is used; may be asked from any thread."""
        return self._bytes > self._max_bytes // 2

    def append(self, frames: Sequence[Frame]) -> list[Frame]:
        """Numbers and stores frames; they are durable on return. Lets the oldest go when there is no room.

        Raises CrowError(UNAVAILABLE) when the disk refuses; then none of them is stored and no number is used.
        """
        try:
            with translated_errors("the spool's index"):
                self._make_room(sum(len(frame.payload) for frame in frames))
                with transaction(self._db) as db:
                    numbered = [self._insert(db, frame) for frame in frames]
                    self._segments.sync()
        except CrowError:
            # On a full disk, what is left of the attempt would stand in the way of the next.
            with suppress(CrowError), translated_errors("the spool's index"):
                self._unlink_empty()
            raise
        self._bytes += sum(len(frame.payload) for frame in numbered)
        return numbered

    def read(self, after_position: int, limit: int) -> list[SpooledFrame]:
        """Up to `limit` frames in the order of spooling. A damaged one is given up and left out."""
        rows = self._db.execute(
            f"select {_COLUMNS} from frame where position > ? order by position limit ?",  # noqa: S608 — a constant
            (after_position, limit),
        ).fetchall()
        found: list[SpooledFrame] = []
        for position, camera_id, seq, capture_us, time_source, encoding, width, height, *place in rows:
            try:
                payload = self._segments.read(Pointer(*place))
            except CrowError as error:
                if error.kind is not Kind.CORRUPT:
                    raise
                self.give_up(Hole(camera_id, seq, seq, HoleReason.CORRUPT, error.message))
                continue
            source, coding = TimeSource(time_source), Encoding(encoding)
            frame = Frame(camera_id, capture_us, source, coding, width, height, payload, place[3], seq)
            found.append(SpooledFrame(position, frame))
        return found

    def release(self, through: Mapping[str, int]) -> None:
        """Forgets the frames and holes of each camera up to a number: the receiver has passed them."""
        freed: list[int] = []
        with transaction(self._db) as db:  # one for all cameras, since each costs a sync
            for place in through.items():
                freed += _forget(db, "camera_id = ? and seq <= ?", place)
                db.execute("delete from hole where camera_id = ? and to_seq <= ?", place)
                db.execute("update camera set acked_seq = max(acked_seq, ?) where camera_id = ?", place[::-1])
        self._freed(freed)

    def give_up(self, hole: Hole) -> None:
        """Puts a hole in the place of frames that will never be delivered; numbers already gone are not counted."""
        with transaction(self._db) as db:
            place = (hole.camera_id, hole.from_seq, hole.to_seq)
            freed = _forget(db, "camera_id = ? and seq between ? and ?", place)
            _record(db, hole, len(freed))
        self._freed(freed)

    def holes(self, camera_id: str, from_seq: int, to_seq: int) -> list[Hole]:
        """The holes of a camera that lie between two numbers, both inclusive, in order."""
        rows = self._db.execute(
            "select camera_id, from_seq, to_seq, reason, detail from hole "
            "where camera_id = ? and to_seq >= ? and from_seq <= ? order by from_seq",
            (camera_id, from_seq, to_seq),
        )
        return [Hole(camera, first, last, HoleReason(reason), detail) for camera, first, last, reason, detail in rows]

    def marks(self) -> list[CameraMark]:
        """How far each camera has come."""
        return [CameraMark(*row) for row in self._db.execute("select camera_id, last_seq, acked_seq from camera")]

    def pending(self) -> dict[str, int]:
        """Frames that wait here, per camera."""
        return dict(self._db.execute("select camera_id, count(*) from frame group by camera_id").fetchall())

    def lost(self) -> list[Lost]:
        """What was given up since the spool was made."""
        rows = self._db.execute("select camera_id, reason, frames, last_detail from lost order by camera_id, reason")
        return [Lost(camera_id, HoleReason(reason), frames, detail) for camera_id, reason, frames, detail in rows]

    def close(self) -> None:
        """Closes files; nothing promised is lost by it."""
        self._segments.close()
        self._db.close()

    def _insert(self, db: sqlite3.Connection, frame: Frame) -> Frame:
        db.execute("insert or ignore into camera (camera_id) values (?)", (frame.camera_id,))
        (seq,) = db.execute(
            "update camera set last_seq = last_seq + 1 where camera_id = ? returning last_seq", (frame.camera_id,)
        ).fetchone()
        place = self._segments.append(frame.payload)
        picture = (frame.time_source, frame.encoding, frame.width, frame.height)
        pointer = (place.segment, place.offset, place.length, frame.crc32)
        db.execute(
            f"insert into frame ({_COLUMNS}) values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 — a constant
            (frame.camera_id, seq, frame.capture_us, *picture, *pointer),
        )
        return replace(frame, seq=seq)

    def _make_room(self, fresh_bytes: int) -> None:
        while self._bytes + fresh_bytes > self._max_bytes and self._let_go_oldest_segment():
            pass

    def _let_go_oldest_segment(self) -> bool:
        oldest = self._db.execute("select min(segment) from frame").fetchone()[0]
        if oldest is None or oldest == self._segments.current:
            return False
        with transaction(self._db) as db:
            spans = db.execute(
                "select camera_id, min(seq), max(seq), count(*) from frame where segment = ? group by camera_id",
                (oldest,),
            ).fetchall()
            freed = _forget(db, "segment = ?", (oldest,))
            for camera_id, first, last, frames in spans:
                hole = Hole(camera_id, first, last, HoleReason.SPOOL_FULL, f"the spool holds {self._max_bytes} bytes")
                _record(db, hole, frames)
        self._freed(freed)
        return True

    def _freed(self, lengths: list[int]) -> None:
        self._bytes -= sum(lengths)
        self._unlink_empty()

    def _unlink_empty(self) -> None:
        self._segments.keep_only(segment for (segment,) in self._db.execute(_SEGMENTS_IN_USE))


def _forget(db: sqlite3.Connection, where: str, values: tuple[str | int, ...]) -> list[int]:
    """Deletes index rows and returns the bytes of each picture; `where` is a constant of this module."""
    return [length for (length,) in db.execute(f"delete from frame where {where} returning length", values)]  # noqa: S608


def _record(db: sqlite3.Connection, hole: Hole, frames: int) -> None:
    """Notes a hole, unless one lies there already, and counts its frames.

    It joins one of its kind that ends where it begins: a long time without receiver must not fill the index with holes.
    """
    before = db.execute(
        "select from_seq, to_seq, reason from hole "
        "where camera_id = ? and from_seq <= ? order by from_seq desc limit 1",
        (hole.camera_id, hole.from_seq),
    ).fetchone()
    if before is not None and before[1] >= hole.to_seq:
        return
    goes_on = before is not None and before[1:] == (hole.from_seq - 1, hole.reason)
    place = (hole.camera_id, before[0] if goes_on else hole.from_seq, hole.to_seq, hole.reason, hole.detail)
    db.execute(
        "insert or replace into hole (camera_id, from_seq, to_seq, reason, detail) values (?, ?, ?, ?, ?)", place
    )
    if frames:
        db.execute(
            """insert into lost (camera_id, reason, frames, last_detail) values (?, ?, ?, ?)
               on conflict do update set frames = frames + excluded.frames, last_detail = excluded.last_detail""",
            (hole.camera_id, hole.reason, frames, hole.detail),
        )
