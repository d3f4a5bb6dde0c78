"""Sessions as rows: which one a capture time belongs to, and what can be said of one.

A session is one UTC hour of continuous footage of one camera. Which one a frame belongs to depends on capture times
alone, so that it holds through any crash and any order of arrival: the one of its camera and hour that is nearest in
time, unless that is more than the gap away; then it opens a new one.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from crow_receiver.store.cameras import CameraRow, by_id
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session and the state of its frames; times in microseconds since the Unix epoch."""

    id: str
    camera: CameraRow
    is_open: bool
    first_capture_us: int
    last_capture_us: int
    closings: int
    batches: int
    frames: int
    analysed: int
    failed: int


def session_for(db: sqlite3.Connection, camera: CameraRow, capture_us: int, gap_us: int) -> str | None:
    """The session that a frame of this capture time belongs to, or None when it begins a new one.

    Raises CrowError(UNAVAILABLE) while retention takes that session away.
    """
    row = db.execute(
        """select id, max(0, first_capture_us - ?1, ?1 - last_capture_us) as away_us, state from session
           where camera = ?2 and hour_us = ?3 order by away_us, first_capture_us limit 1""",
        (capture_us, camera.id, capture_us // HOUR_US * HOUR_US),
    ).fetchone()
    if row is None or row[1] > gap_us:
        return None
    session_id, _, state = row
    if state == "expiring":
        raise CrowError(Kind.UNAVAILABLE, "session_expiring", f"session {session_id} is being deleted: try again")
    return str(session_id)


def open_session(db: sqlite3.Connection, camera: CameraRow, first_capture_us: int, now_us: int) -> str:
    """A new session that begins with this capture time."""
    session_id = session_name(camera.key, first_capture_us)
    hour_us = first_capture_us // HOUR_US * HOUR_US
    db.execute(
        "insert into session (id, camera, hour_us, first_capture_us, last_capture_us, last_arrival_us, opened_us) "
        "values (?, ?, ?, ?, ?, ?, ?)",
        (session_id, camera.id, hour_us, first_capture_us, first_capture_us, now_us, now_us),
    )
    return session_id


def session_name(key: CameraKey, first_capture_us: int) -> str:
    """The session's id: its camera and the capture time of its first frame in UTC, to the millisecond."""
    start = datetime.fromtimestamp(first_capture_us / 1_000_000, UTC)
    millisecond = first_capture_us // 1000 % 1000
    return f"{key.organization_id}.{key.site_id}.{key.camera_id}.{start:%Y%m%dT%H%M%S}{millisecond:03d}Z"


def find_session(db: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """The session of this id, whoever it belongs to."""
    row = db.execute(
        """select camera, state, first_capture_us, last_capture_us, closings, batches, frames,
               (select count(*) from frame where session_id = s.id and state = 'analysed'),
               (select count(*) from frame where session_id = s.id and state = 'failed')
           from session as s where id = ?""",
        (session_id,),
    ).fetchone()
    if row is None:
        return None
    camera, state, *rest = row
    return SessionRow(session_id, by_id(db, camera), state == "open", *rest)
