"""Frames: stored once, in the session that their capture time belongs to, waiting for their analysis.

The session is found or opened in the transaction that stores the frame. A frame that comes after its session was closed
opens it again: it will close anew with the next revision.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from crow_receiver.store.cameras import CameraRow, advance
from crow_receiver.store.sessions import open_session, session_for
from crow_receiver.store.store import Transaction
from crow_shared.frame import Frame
from crow_shared.identity import CameraKey
from crow_shared.segments import Pointer

PUT_OFF_MOST_US = 60_000_000


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """Where a frame ended up; `duplicate` when it had been stored before."""

    session_id: str
    frame_index: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame that waits for its analysis; `late` when it came long after its capture."""

    id: int
    session_id: str
    frame_index: int
    capture_us: int
    attempts: int
    late: bool
    picture: Pointer
    camera: CameraRow


def store_frame(
    tx: Transaction, camera: CameraRow, epoch: str, frame: Frame, now_us: int, gap_us: int, *, late: bool = False
) -> StoredFrame:
    """Stores a frame with its picture and finds or opens its session; a `late` one is analysed after those in time."""
    known = tx.db.execute(
        "select session_id, frame_index from frame where camera = ? and epoch = ? and seq = ?",
        (camera.id, epoch, frame.seq),
    ).fetchone()
    if known is not None:
        return StoredFrame(known[0], known[1], duplicate=True)
    session_id = session_for(tx.db, camera, frame.capture_us, gap_us)
    if session_id is None:
        session_id = open_session(tx.db, camera, frame.capture_us, now_us)
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
               late, encoding, width, height, segment, "offset", length, crc32)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            camera.id,
            epoch,
            frame.seq,
            session_id,
            frames - 1,
            frame.capture_us,
            frame.time_source,
            now_us,
            late,
            *picture,
        ),
    )
    return StoredFrame(session_id, frames - 1, duplicate=False)


_PENDING = """f.id, f.session_id, f.frame_index, f.capture_us, f.attempts, f.late,
               f.segment, f."offset", f.length, f.crc32,
               c.id, c.organization_id, c.site_id, c.camera_id, c.name, c.sample_interval_ms"""


def next_frames(db: sqlite3.Connection, now_us: int) -> list[PendingFrame]:
    """Of each camera with frames to analyse now, the oldest that is not late and the oldest late one.

    By the index, however many wait behind them. A try put off for longer than tries are was put off by another clock.
    """
    rows = db.execute(
        f"""select {_PENDING}
           from (select 0 as late union all select 1) as line join camera as c join frame as f on f.id = (
               select id from frame where camera = c.id and late = line.late and state = 'pending'
                   and not_before_us not between ?1 + 1 and ?1 + {PUT_OFF_MOST_US}
               order by id limit 1)""",  # noqa: S608 — constants
        (now_us,),
    )
    return [_pending(row) for row in rows]


def waiting_since(db: sqlite3.Connection, camera: int, arrival_us: int, limit: int) -> list[PendingFrame]:
    """The camera's oldest frames, late ones apart, that arrived before this and wait for their analysis still."""
    rows = db.execute(
        f"""select {_PENDING} from frame as f join camera as c on c.id = f.camera
           where f.received_us < ? and f.id in (
               select id from frame where camera = ? and late = 0 and state = 'pending' order by id limit ?)
           order by f.id""",  # noqa: S608 — a constant
        (arrival_us, camera, limit),
    )
    return [_pending(row) for row in rows]


def _pending(row: tuple[Any, ...]) -> PendingFrame:
    frame_id, session_id, index, capture_us, attempts, late, *rest = row
    camera = CameraRow(rest[4], CameraKey(*rest[5:8]), *rest[8:])
    return PendingFrame(frame_id, session_id, index, capture_us, attempts, bool(late), Pointer(*rest[:4]), camera)


def put_off(db: sqlite3.Connection, frame: int, error: str, not_before_us: int) -> None:
    """A try at an analysis failed; another may follow. It is put off by `PUT_OFF_MOST_US` at most."""
    db.execute(
        "update frame set attempts = attempts + 1, failure = ?, not_before_us = ? where id = ? and state = 'pending'",
        (error, not_before_us, frame),
    )


def advance_past(
    tx: Transaction, camera: CameraRow, epoch: str, frame: Frame, now_us: int, gap_us: int, *, late: bool = False
) -> StoredFrame:
    """`store_frame` for a stream with positions: both in one transaction."""
    stored = store_frame(tx, camera, epoch, frame, now_us, gap_us, late=late)
    advance(tx.db, camera.id, epoch, frame.seq, frame.seq, now_us)
    return stored


@dataclass(frozen=True, slots=True)
class BacklogRow:
    """What waits for analysis of one camera, the late frames apart; `oldest_us` are arrivals, None when none waits."""

    camera: CameraRow
    waiting: int
    oldest_us: int | None
    late_waiting: int
    late_oldest_us: int | None

    def behind_s(self, now_us: int) -> float:
        """For how long the oldest frame that is not late has waited."""
        return _age_s(self.oldest_us, now_us)

    def late_behind_s(self, now_us: int) -> float:
        """For how long the oldest late frame has waited."""
        return _age_s(self.late_oldest_us, now_us)


def _age_s(arrival_us: int | None, now_us: int) -> float:
    return 0.0 if arrival_us is None else max(0, now_us - arrival_us) / 1_000_000


def analysis_backlog(db: sqlite3.Connection) -> list[BacklogRow]:
    """What waits, per camera."""
    rows = db.execute(
        """with line as (
               select camera, late, count(*) as waiting, min(id) as oldest from frame where state = 'pending'
               group by camera, late)
           select c.id, c.organization_id, c.site_id, c.camera_id, c.name, c.sample_interval_ms,
               coalesce(n.waiting, 0), (select received_us from frame where id = n.oldest),
               coalesce(l.waiting, 0), (select received_us from frame where id = l.oldest)
           from camera as c left join line as n on n.camera = c.id and n.late = 0
               left join line as l on l.camera = c.id and l.late = 1
           order by c.id"""
    )
    return [BacklogRow(CameraRow(row[0], CameraKey(*row[1:4]), *row[4:6]), *row[6:]) for row in rows]


def failed_frames(db: sqlite3.Connection) -> list[tuple[CameraKey, int]]:
    """How many frames of each camera were given up."""
    rows = db.execute(
        """select organization_id, site_id, camera_id,
               (select count(*) from frame where camera = c.id and state = 'failed')
           from camera as c order by c.id"""
    )
    return [(CameraKey(organization, site, camera), failed) for organization, site, camera, failed in rows]
