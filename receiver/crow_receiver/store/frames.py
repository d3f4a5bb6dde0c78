"""Frames: stored once, in the session that their capture time belongs to, waiting for their analysis.

A session is one UTC hour of continuous footage of one camera. Which one a frame belongs to depends on capture times
alone, and is decided in the transaction that stores the frame, so that it holds through any crash and any order of
arrival. A frame more than `gap_us` away from every session of its camera and hour opens a new one. A frame that comes
after its session was closed opens it again: it will close anew with the next revision.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from crow_receiver.store.cameras import CameraRow, advance
from crow_receiver.store.store import Transaction
from crow_shared.frame import Frame
from crow_shared.identity import CameraKey
from crow_shared.segments import Pointer

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """Where a frame ended up; `duplicate` when it had been stored before."""

    session_id: str
    frame_index: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame that waits for its analysis."""

    id: int
    camera: int
    session_id: str
    frame_index: int
    capture_us: int
    attempts: int
    picture: Pointer


def store_frame(tx: Transaction, camera: CameraRow, epoch: str, frame: Frame, now_us: int, gap_us: int) -> StoredFrame:
    """Stores a frame with its picture, finds or opens its session and advances the stream's position."""
    known = tx.db.execute(
        "select session_id, frame_index from frame where camera = ? and epoch = ? and seq = ?",
        (camera.id, epoch, frame.seq),
    ).fetchone()
    if known is not None:
        return StoredFrame(known[0], known[1], duplicate=True)
    session_id = _session_for(tx.db, camera, frame.capture_us, gap_us)
    if session_id is None:
        session_id = session_name(camera.key, frame.capture_us)
        hour_us = frame.capture_us // HOUR_US * HOUR_US
        times = (frame.capture_us, frame.capture_us, now_us, now_us)
        tx.db.execute(
            "insert into session (id, camera, hour_us, first_capture_us, last_capture_us, last_arrival_us, opened_us) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (session_id, camera.id, hour_us, *times),
        )
    (frames,) = tx.db.execute(
        """update session set frames = frames + 1, last_arrival_us = ?, state = 'open', closed_us = null,
               first_capture_us = min(first_capture_us, ?), last_capture_us = max(last_capture_us, ?)
           where id = ? returning frames""",
        (now_us, frame.capture_us, frame.capture_us, session_id),
    ).fetchone()
    place = tx.pictures.append(frame.payload)
    pointer = (place.segment, place.offset, place.length, place.crc32)
    picture = (frame.encoding, frame.width, frame.height, *pointer)
    tx.db.execute(
        """insert into frame (camera, epoch, seq, session_id, frame_index, capture_us, time_source, received_us,
               encoding, width, height, segment, "offset", length, crc32)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (camera.id, epoch, frame.seq, session_id, frames - 1, frame.capture_us, frame.time_source, now_us, *picture),
    )
    return StoredFrame(session_id, frames - 1, duplicate=False)


def session_name(key: CameraKey, first_capture_us: int) -> str:
    """The session's id: its camera and the capture time of its first frame in UTC, to the millisecond."""
    start = datetime.fromtimestamp(first_capture_us / 1_000_000, UTC)
    millisecond = first_capture_us // 1000 % 1000
    return f"{key.organization_id}.{key.site_id}.{key.camera_id}.{start:%Y%m%dT%H%M%S}{millisecond:03d}Z"


def _session_for(db: sqlite3.Connection, camera: CameraRow, capture_us: int, gap_us: int) -> str | None:
    """The session of the frame's hour that is nearest in time, if it is no more than the gap away."""
    row = db.execute(
        """select id, max(0, first_capture_us - ?1, ?1 - last_capture_us) as away_us from session
           where camera = ?2 and hour_us = ?3 order by away_us, first_capture_us limit 1""",
        (capture_us, camera.id, capture_us // HOUR_US * HOUR_US),
    ).fetchone()
    return row[0] if row is not None and row[1] <= gap_us else None


_PENDING = 'id, camera, session_id, frame_index, capture_us, attempts, segment, "offset", length, crc32'


def pending_frames(db: sqlite3.Connection, now_us: int, limit: int, but: set[int]) -> list[PendingFrame]:
    """Up to `limit` frames to analyse next except those in `but`: the cameras take turns, each one's oldest first."""
    rows = db.execute(
        f"""select {_PENDING} from (
                select *, row_number() over (partition by camera order by id) as turn
                from frame where state = 'pending')
            where not_before_us <= ? and segment is not null order by turn, id limit ?""",  # noqa: S608 — a constant
        (now_us, limit + len(but)),
    )
    return [_pending(row) for row in rows if row[0] not in but][:limit]


def _pending(row: tuple[int, int, str, int, int, int, int, int, int, int]) -> PendingFrame:
    return PendingFrame(*row[:6], Pointer(*row[6:]))


def put_off(db: sqlite3.Connection, frame: int, error: str, not_before_us: int) -> None:
    """A try at an analysis failed; another may follow."""
    db.execute(
        "update frame set attempts = attempts + 1, failure = ?, not_before_us = ? where id = ? and state = 'pending'",
        (error, not_before_us, frame),
    )


def advance_past(tx: Transaction, camera: CameraRow, epoch: str, frame: Frame, now_us: int, gap_us: int) -> StoredFrame:
    """`store_frame` for a stream with positions: both in one transaction."""
    stored = store_frame(tx, camera, epoch, frame, now_us, gap_us)
    advance(tx.db, camera.id, epoch, frame.seq, frame.seq)
    return stored


def delete_pictures(tx: Transaction, received_before_us: int) -> list[int]:
    """Forgets where old pictures lie and returns the segments that nothing points at any more, to be unlinked.

    Whole segments go, once every frame in them is older and none still waits for its analysis.
    """
    rows = tx.db.execute(
        """select segment from frame where segment is not null group by segment
           having max(received_us) < ? and sum(state = 'pending') = 0""",
        (received_before_us,),
    ).fetchall()
    segments = [segment for (segment,) in rows if segment != tx.pictures.current]
    tx.db.executemany("update frame set segment = null where segment = ?", [(segment,) for segment in segments])
    return segments
