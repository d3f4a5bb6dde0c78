"""Frames that wait for their analysis, and how far that has come."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from crow_receiver.store.cameras import COLUMNS, CameraRow
from crow_shared.frame import Encoding
from crow_shared.identity import CameraKey
from crow_shared.segments import Pointer

PUT_OFF_MOST_US = 60_000_000


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame that waits for its analysis; `late` when it came long after its capture."""

    id: int
    session_id: str
    frame_index: int
    capture_us: int
    attempts: int
    late: bool
    encoding: Encoding
    picture: Pointer
    camera: CameraRow


# Of frame as f and camera as c.
PENDING = f"""f.id, f.session_id, f.frame_index, f.capture_us, f.attempts, f.late, f.encoding,
               f.segment, f."offset", f.length, f.crc32, {COLUMNS}"""


def next_frames(db: sqlite3.Connection, now_us: int) -> list[PendingFrame]:
    """Of each camera with frames to analyse now, the oldest that is not late and the oldest late one.

    By the index, however many wait behind them. A try put off for longer than tries are was put off by another clock.
    """
    rows = db.execute(
        f"""select {PENDING}
           from (select 0 as late union all select 1) as line join camera as c join frame as f on f.id = (
               select id from frame where camera = c.id and late = line.late and state = 'pending'
                   and not_before_us not between ?1 + 1 and ?1 + {PUT_OFF_MOST_US}
               order by id limit 1)""",  # noqa: S608 — constants
        (now_us,),
    )
    return [pending_frame(row) for row in rows]


def waiting_since(db: sqlite3.Connection, camera: int, arrival_us: int, limit: int) -> list[PendingFrame]:
    """The camera's oldest frames, late ones apart, that arrived before this and wait for their analysis still."""
    rows = db.execute(
        f"""select {PENDING} from frame as f join camera as c on c.id = f.camera
           where f.received_us < ? and f.id in (
               select id from frame where camera = ? and late = 0 and state = 'pending' order by id limit ?)
           order by f.id""",  # noqa: S608 — a constant
        (arrival_us, camera, limit),
    )
    return [pending_frame(row) for row in rows]


def pending_frame(row: tuple[Any, ...]) -> PendingFrame:
    """The frame of a row of `PENDING`."""
    frame_id, session_id, index, capture_us, attempts, late, encoding, *rest = row
    kind = (bool(late), Encoding(encoding))
    camera = CameraRow.of(rest[4:])
    return PendingFrame(frame_id, session_id, index, capture_us, attempts, *kind, Pointer(*rest[:4]), camera)


def described_before(db: sqlite3.Connection, frame: PendingFrame, since_us: int) -> tuple[str, int] | None:
    """What was said of the session's last frame before this one, and its capture time; late frames apart."""
    row = db.execute(
        """select json_extract(body, '$.scene.description'), capture_us
           from frame join analysis on analysis.frame = frame.id
           where frame.session_id = ? and late = ? and capture_us >= ? and capture_us < ?
           order by capture_us desc limit 1""",
        (frame.session_id, frame.late, since_us, frame.capture_us),
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))


def put_off(db: sqlite3.Connection, frame: int, error: str, not_before_us: int) -> None:
    """A try at an analysis failed; another may follow. It is put off by `PUT_OFF_MOST_US` at most."""
    db.execute(
        "update frame set attempts = attempts + 1, failure = ?, not_before_us = ? where id = ? and state = 'pending'",
        (error, not_before_us, frame),
    )


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
        f"""with line as (
               select camera, late, count(*) as waiting, min(id) as oldest from frame where state = 'pending'
               group by camera, late)
           select {COLUMNS},
               coalesce(n.waiting, 0), (select received_us from frame where id = n.oldest),
               coalesce(l.waiting, 0), (select received_us from frame where id = l.oldest)
           from camera as c left join line as n on n.camera = c.id and n.late = 0
               left join line as l on l.camera = c.id and l.late = 1
           order by c.id"""  # noqa: S608 — constants
    )
    return [BacklogRow(CameraRow.of(row[:-4]), *row[-4:]) for row in rows]


def failed_frames(db: sqlite3.Connection) -> list[tuple[CameraKey, int]]:
    """How many frames of each camera were given up."""
    rows = db.execute(
        """select organization_id, site_id, camera_id,
               (select count(*) from frame where camera = c.id and state = 'failed')
           from camera as c order by c.id"""
    )
    return [(CameraKey(organization, site, camera), failed) for organization, site, camera, failed in rows]
