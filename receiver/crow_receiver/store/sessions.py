"""Sessions as rows: which one a capture time belongs to, and what can be said of one.

A session is one UTC hour of continuous footage of one camera. Which one a frame belongs to depends on capture times
and on the sessions that are there, so that it holds through any crash: the one of its camera and hour that is nearest
in time, unless that is more than the gap away; then it opens a new one. So sessions never overlap. Two that late frames
join stay two, side by side, since what has been told of them cannot be taken back; and a session keeps its id when an
earlier frame comes.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from crow_receiver.store.cameras import CameraRow, by_id
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session and the state of its frames, erased ones left out; times in microseconds since the Unix epoch."""

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


@dataclass(slots=True)
class Span:
    """A session's stretch of capture time and how many frames it has, which is also the next one's index."""

    session_id: str
    first_us: int
    last_us: int
    frames: int
    expiring: bool = False

    def take(self, capture_us: int) -> None:
        """One more frame."""
        self.first_us, self.last_us = min(self.first_us, capture_us), max(self.last_us, capture_us)
        self.frames += 1


def spans(db: sqlite3.Connection, camera: int, hour_us: int) -> list[Span]:
    """The camera's sessions of an hour."""
    rows = db.execute(
        """select id, first_capture_us, last_capture_us, frames, state = 'expiring' from session
           where camera = ? and hour_us = ?""",
        (camera, hour_us),
    )
    return [Span(*row) for row in rows]


def nearest(hour: Iterable[Span], capture_us: int, gap_us: int) -> Span | None:
    """Of the sessions of its hour, the one that a frame of this capture time belongs to; None when it begins one.

    Raises CrowError(UNAVAILABLE) while retention takes that session away.
    """

    def away(span: Span) -> tuple[int, int]:
        return max(0, span.first_us - capture_us, capture_us - span.last_us), span.first_us

    span = min(hour, key=away, default=None)
    if span is None or away(span)[0] > gap_us:
        return None
    if span.expiring:
        raise CrowError(Kind.UNAVAILABLE, "session_expiring", f"session {span.session_id} is being deleted: try again")
    return span


def session_for(db: sqlite3.Connection, camera: CameraRow, capture_us: int, gap_us: int) -> str | None:
    """The session that a frame of this capture time belongs to, or None when it begins a new one.

    Raises CrowError as `nearest` does.
    """
    span = nearest(spans(db, camera.id, capture_us // HOUR_US * HOUR_US), capture_us, gap_us)
    return span.session_id if span is not None else None


def open_session(db: sqlite3.Connection, camera: CameraRow, first_capture_us: int, now_us: int) -> Span:
    """A new session that begins with this capture time, without frames still."""
    session_id = session_name(camera.key, first_capture_us)
    hour_us = first_capture_us // HOUR_US * HOUR_US
    db.execute(
        "insert into session (id, camera, hour_us, first_capture_us, last_capture_us, last_arrival_us, opened_us) "
        "values (?, ?, ?, ?, ?, ?, ?)",
        (session_id, camera.id, hour_us, first_capture_us, first_capture_us, now_us, now_us),
    )
    return Span(session_id, first_capture_us, first_capture_us, 0)


def extend(db: sqlite3.Connection, changed: Iterable[tuple[Span, int]]) -> None:
    """Writes spans that have taken frames, the last of which arrived then; a closed session is open again."""
    db.executemany(
        """update session set frames = ?, first_capture_us = ?, last_capture_us = ?, last_arrival_us = ?,
               state = 'open', closed_us = null where id = ?""",
        [(span.frames, span.first_us, span.last_us, arrival_us, span.session_id) for span, arrival_us in changed],
    )


def session_name(key: CameraKey, first_capture_us: int) -> str:
    """The session's id: its camera and the capture time of its first frame in UTC, to the millisecond."""
    start = datetime.fromtimestamp(first_capture_us / 1_000_000, UTC)
    millisecond = first_capture_us // 1000 % 1000
    return f"{key.organization_id}.{key.site_id}.{key.camera_id}.{start:%Y%m%dT%H%M%S}{millisecond:03d}Z"


def find_session(db: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """The session of this id, whoever it belongs to."""
    row = db.execute(
        """select camera, state, first_capture_us, last_capture_us, closings, batches,
               frames - (select count(*) from frame where session_id = s.id and state = 'erased'),
               (select count(*) from frame where session_id = s.id and state = 'analysed'),
               (select count(*) from frame where session_id = s.id and state = 'failed')
           from session as s where id = ?""",
        (session_id,),
    ).fetchone()
    if row is None:
        return None
    camera, state, *rest = row
    return SessionRow(session_id, by_id(db, camera), state == "open", *rest)
