"""Kept frames described again: runs of `crow-receiver reanalyse`, beside what was said of the frames before.

Invariants
1. A run's answers are rows of their own; what the analysis said is never changed. Which of them is told is said by
   `analysis.told_run`.
2. A frame has one answer in a run, an analysis or a failure; an erased frame, and one that is gone, gets none.
3. A session of a run is told once. From then on the run takes no more answers and stays for as long as its sessions.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crow_receiver.store.frames import PENDING, PendingFrame, pending_frame
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError, Kind


@dataclass(frozen=True, slots=True)
class Run:
    """A run and how far it has come; `asked` says of which frames and by what."""

    id: int
    asked: dict[str, Any]
    begun_us: int  # since the Unix epoch
    sessions: int
    told: int  # sessions
    described: int  # frames
    failed: int


@dataclass(frozen=True, slots=True)
class Found:
    """Frames of a selection, by what a run can do with them."""

    kept: int  # with their pictures, and tried before: those that the run is about
    done: int  # of these
    keyframes: int  # of these
    failed_before: int  # of these
    without_picture: int
    erased: int
    waiting: int  # for their first analysis

    def __add__(self, other: "Found") -> "Found":
        """Both together."""
        return Found(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Pair:
    """What was said of a frame first, and what a run says of it; None where it could not be described."""

    session_id: str
    frame_index: int
    capture_us: int
    before: Analysis | None
    now: Analysis | None
    failure: str | None  # why there is no `now`


_RUNS = """
    select id, asked, begun_us,
        (select count(*) from reanalysis_session where run = id),
        (select count(*) from reanalysis_session where run = id and revision is not null),
        (select count(*) from reanalysed where run = id and body is not null),
        (select count(*) from reanalysed where run = id and body is null)
    from reanalysis"""


def every(db: sqlite3.Connection) -> list[Run]:
    """All runs, the oldest first."""
    return [_run(row) for row in db.execute(f"{_RUNS} order by id")]


def by_id(db: sqlite3.Connection, run: int) -> Run:
    """The run of this id. Raises CrowError(NOT_FOUND)."""
    row = db.execute(f"{_RUNS} where id = ?", (run,)).fetchone()
    if row is None:
        raise CrowError(Kind.NOT_FOUND, "run_unknown", f"there is no run {run}: `crow-receiver reanalyses` lists them")
    return _run(row)


def _run(row: tuple[Any, ...]) -> Run:
    run_id, asked, *rest = row
    return Run(run_id, json.loads(asked), *rest)


def begin(db: sqlite3.Connection, asked: str, sessions: Sequence[str], now_us: int, *, anew: bool) -> int:
    """The latest run of what is asked for, or a new one where there is none or `anew` is wanted; its id."""
    (run,) = db.execute("select max(id) from reanalysis where asked = ?", (asked,)).fetchone()
    if run is None or anew:
        run = db.execute("insert into reanalysis (asked, begun_us) values (?, ?)", (asked, now_us)).lastrowid
    if not _is_told(db, run):
        db.executemany(
            "insert or ignore into reanalysis_session (run, session_id) values (?, ?)", [(run, one) for one in sessions]
        )
    return int(run)


def _is_told(db: sqlite3.Connection, run: int) -> bool:
    told = db.execute("select 1 from reanalysis_session where run = ? and revision is not null", (run,)).fetchone()
    return told is not None


def remove(db: sqlite3.Connection, run: int) -> None:
    """Lets a run go with its answers. Raises CrowError: NOT_FOUND, CONFLICT for one that was told."""
    by_id(db, run)
    if _is_told(db, run):
        raise CrowError(Kind.CONFLICT, "run_told", f"run {run} was dispatched: it stays with its sessions")
    for table, key in (("reanalysed", "run"), ("reanalysis_session", "run"), ("reanalysis", "id")):
        db.execute(f"delete from {table} where {key} = ?", (run,))  # noqa: S608 — constants


def sessions_of(db: sqlite3.Connection, run: int) -> list[tuple[str, int | None]]:
    """The run's sessions by time, each with the revision in which it was told."""
    return db.execute(
        """select session_id, revision from reanalysis_session join session on session.id = session_id
           where run = ? order by first_capture_us, session_id""",
        (run,),
    ).fetchall()


def sessions_between(db: sqlite3.Connection, camera: int, from_us: int, to_us: int) -> list[str]:
    """The camera's sessions that lie in the span at least in part."""
    rows = db.execute(
        """select id from session where camera = ? and last_capture_us >= ? and first_capture_us < ?
           order by first_capture_us""",
        (camera, from_us, to_us),
    )
    return [session_id for (session_id,) in rows]


_KEPT = "f.state in ('analysed', 'failed') and f.segment is not null"


def found(db: sqlite3.Connection, run: int, session_id: str, from_us: int, to_us: int) -> Found:
    """What there is of a session between two capture times, the second excluded."""
    row = db.execute(
        f"""select total({_KEPT}), total({_KEPT} and r.frame is not null), total({_KEPT} and encoding <> 'jpeg'),
               total({_KEPT} and state = 'failed'),
               total(state in ('analysed', 'failed') and segment is null), total(state = 'erased'),
               total(state = 'pending')
           from frame as f left join reanalysed as r on r.run = ? and r.frame = f.id
           where f.session_id = ? and capture_us >= ? and capture_us < ?""",  # noqa: S608 — a constant
        (run, session_id, from_us, to_us),
    ).fetchone()
    return Found(*(int(count) for count in row))


def next_frames(
    db: sqlite3.Connection, run: int, session_id: str, to_us: int, after: tuple[int, int], limit: int
) -> list[PendingFrame]:
    """Kept frames without an answer in the run, in the order of capture; `after` is the last one's time and row."""
    rows = db.execute(
        f"""select {PENDING} from frame as f join camera as c on c.id = f.camera
           where f.session_id = ? and (f.capture_us, f.id) > (?, ?) and f.capture_us >= ? and f.capture_us < ?
               and {_KEPT} and not exists (select 1 from reanalysed where run = ? and frame = f.id)
           order by f.capture_us, f.id limit ?""",  # noqa: S608 — constants
        (session_id, *after, after[0], to_us, run, limit),
    )
    return [pending_frame(row) for row in rows]


def record(db: sqlite3.Connection, run: int, frame: int, answer: Analysis | None, failure: str | None) -> None:
    """Keeps the run's answer, unless the frame was erased or told meanwhile, or failed since its picture had gone."""
    db.execute(
        """insert or ignore into reanalysed (run, frame, session_id, body, failure)
           select ?1, id, session_id, ?3, ?4 from frame where id = ?2 and state in ('analysed', 'failed')
               and (?3 is not null or segment is not null) and exists (
                   select 1 from reanalysis_session as s
                   where run = ?1 and s.session_id = frame.session_id and revision is null)""",
        (run, frame, answer.model_dump_json() if answer else None, failure),
    )


def pairs(db: sqlite3.Connection, run: int, session_id: str) -> list[Pair]:
    """The run's answers of a session beside those before, by capture time."""
    rows = db.execute(
        """select f.session_id, frame_index, capture_us, a.body, r.body, r.failure
           from reanalysed as r join frame as f on f.id = r.frame left join analysis as a on a.frame = r.frame
           where r.run = ? and r.session_id = ? order by capture_us, f.id""",
        (run, session_id),
    ).fetchall()
    return [
        Pair(session, index, capture_us, _analysis(before), _analysis(now), failure)
        for session, index, capture_us, before, now, failure in rows
    ]


def _analysis(body: str | None) -> Analysis | None:
    return None if body is None else Analysis.model_validate_json(body)


def mark_told(db: sqlite3.Connection, run: int, session_id: str) -> int | None:
    """The revision in which a session of a run is to be told, noted as told; None: it was told, or is going."""
    changed = db.execute(
        """update reanalysis_session set revision = 1 + (
               select coalesce(max(revision), 0) from reanalysis_session where session_id = ?2)
           where run = ?1 and session_id = ?2 and revision is null
               and exists (select 1 from session where id = ?2 and state <> 'expiring') returning revision""",
        (run, session_id),
    ).fetchone()
    return None if changed is None else int(changed[0])
