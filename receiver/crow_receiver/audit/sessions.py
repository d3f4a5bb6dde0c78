"""Sessions lie apart, hold their own frames, and everything learnt in them is in a message that is somewhere."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from crow_receiver.audit.numbers import Span
from crow_receiver.audit.report import AuditReport, FaultKind
from crow_receiver.messages.interaction import batch_message_id
from crow_receiver.messages.pattern import MINUTE_US
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE, REMEMBERED_US, OutputQueue, Whereabouts
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.sessions import HOUR_US

_SESSIONS = """
    select id, state, hour_us, first_capture_us, last_capture_us, frames, closings from session
    where camera = ? and last_capture_us >= ? and first_capture_us < ? order by first_capture_us"""

_BATCHES = """
    select a.batch_index, json_group_array(f.frame_index) from analysis as a join frame as f on f.id = a.frame
    where a.session_id = ? and batch_index is not null group by 1"""

_REVISIONS = """
    select distinct a.batch_index, s.revision from analysis as a
    join reanalysis_session as s on s.run = a.told_run and s.session_id = a.session_id where a.session_id = ?"""

_UNTOLD_MINUTES = f"""
    select distinct capture_us / {MINUTE_US} * {MINUTE_US} from frame
    where session_id = ? and state in ('analysed', 'failed')
    except select minute_us from pattern_window where session_id = ? and (changed = 0 or ?)"""  # noqa: S608 — a constant


@dataclass(frozen=True, slots=True)
class _Session:
    id: str
    state: str
    hour_us: int
    first_us: int
    last_us: int
    frames: int
    closings: int


def audit_sessions(
    db: sqlite3.Connection,
    latest: sqlite3.Connection,
    queue: OutputQueue,
    camera: CameraRow,
    span: Span,
    now_us: int,
    report: AuditReport,
) -> None:
    """Looks at every session of the camera that lies in the span, at least in part.

    `db` was read before `queue` is: a message goes from the outbox to the queue, never back. `latest`, the same
    database without a transaction, says which messages an erasure has changed on the queue since.
    """
    before: _Session | None = None
    for session in _sessions(db, camera, span):
        report.sessions += 1
        if before is not None and session.first_us <= before.last_us:
            report.fault(FaultKind.SESSIONS_OVERLAP, camera.key, f"{before.id} and {session.id}")
        before = session if before is None or session.last_us > before.last_us else before
        if session.state == "expiring":  # retention is taking its records away, piece by piece
            continue
        _audit_times(db, camera, session, report)
        _audit_windows(db, camera, session, report)
        _audit_messages(db, latest, queue, camera, session, now_us, report)


def _sessions(db: sqlite3.Connection, camera: CameraRow, span: Span) -> Iterator[_Session]:
    return (_Session(*row) for row in db.execute(_SESSIONS, (camera.id, span.from_us, span.to_us)))


def _audit_times(db: sqlite3.Connection, camera: CameraRow, session: _Session, report: AuditReport) -> None:
    count, outside = db.execute(
        """select count(*), total(capture_us < ?2 or capture_us > ?3 or capture_us < ?4 or capture_us >= ?5)
           from frame where session_id = ?1""",
        (session.id, session.first_us, session.last_us, session.hour_us, session.hour_us + HOUR_US),
    ).fetchone()
    if outside:
        report.fault(FaultKind.OUTSIDE_SESSION, camera.key, session.id, int(outside))
    if count != session.frames:
        detail = f"{session.id}: {session.frames} counted, {count} there"
        report.fault(FaultKind.WRONG_COUNT, camera.key, detail, abs(count - session.frames))


def _audit_windows(db: sqlite3.Connection, camera: CameraRow, session: _Session, report: AuditReport) -> None:
    untold = db.execute(_UNTOLD_MINUTES, (session.id, session.id, session.state == "open")).fetchall()
    if untold:
        detail = f"{session.id}: minute {untold[0][0]}"
        report.fault(FaultKind.WINDOW_UNTOLD, camera.key, detail, len(untold))


def _audit_messages(
    db: sqlite3.Connection,
    latest: sqlite3.Connection,
    queue: OutputQueue,
    camera: CameraRow,
    session: _Session,
    now_us: int,
    report: AuditReport,
) -> None:
    batches = dict(db.execute(_BATCHES, (session.id,)))
    frames = {batch_message_id(session.id, index): json.loads(held) for index, held in batches.items()}
    for index, revision in db.execute(_REVISIONS, (session.id,)):
        frames[batch_message_id(session.id, index, revision)] = json.loads(batches[index])
    patterns = {
        f"{session.id}:window:{minute_us // 1000}:{revision}"
        for minute_us, revision in db.execute(
            "select minute_us, revision from pattern_window where session_id = ? and revision >= 0", (session.id,)
        )
    }
    if session.closings:
        patterns.add(f"{session.id}:session:{session.closings - 1}")
    outbox = {
        message_id: (dispatched_us, body)
        for message_id, dispatched_us, body in db.execute(
            "select message_id, dispatched_us, body from outbox left join outbox_content using (id) "
            "where session_id = ?",
            (session.id,),
        )
    }
    for name, expected in ((INTERACTION_QUEUE, set(frames)), (PATTERN_QUEUE, patterns)):
        found = queue.trace(name, sorted(expected & outbox.keys()))
        rewriting = _rewriting(db, latest, session.id)  # after the queue: what was changed there is noted here
        for message_id in sorted(expected):
            dispatched_us, body = outbox.get(message_id, (None, None))
            trace = found.get(message_id)
            if message_id not in outbox:
                where = "nowhere"
            elif dispatched_us is None:
                where = "outbox"
            elif trace is not None:
                where, body = trace.whereabouts.value, trace.body
            else:
                where = Whereabouts.TAKEN.value if dispatched_us < now_us - REMEMBERED_US else "nowhere"
            if where == "nowhere" and message_id in rewriting:  # all its frames were erased meanwhile
                continue
            report.messages[where] += 1
            if where == "nowhere":
                report.fault(FaultKind.NO_MESSAGE, camera.key, message_id, len(frames.get(message_id, [0])))
            elif body and message_id in frames and message_id not in rewriting:
                _audit_body(body, message_id, sorted(frames[message_id]), camera, report)


def _rewriting(db: sqlite3.Connection, latest: sqlite3.Connection, session_id: str) -> set[str]:
    """The messages whose bodies erasures have changed since `db` was read, or may be changing now."""
    noted = "select erasure, message_id from erasure_message where session_id = ?"
    settled = set(db.execute(f"{noted} and outcome is not null", (session_id,)))
    unsettled = set(latest.execute(f"{noted} and outcome is null", (session_id,)))
    since = set(latest.execute(noted, (session_id,))) - settled
    return {message_id for _, message_id in unsettled | since}


def _audit_body(body: bytes, message_id: str, expected: list[int], camera: CameraRow, report: AuditReport) -> None:
    told: list[int] | None = None
    with suppress(ValueError, KeyError, TypeError):  # then it tells of nothing that we know
        told = sorted(frame["frameIndex"] for frame in json.loads(body)["frameAnalyses"])
    if told != expected:
        report.fault(FaultKind.WRONG_MESSAGE, camera.key, message_id, len(expected))
