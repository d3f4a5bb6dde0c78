"""What a session's actor does to the database: outcomes in, batches and windows out, each in one transaction.

Everything is derived from rows, so every function may run again after a crash:
- a batch takes the analyses that no batch has taken yet;
- a pattern window is told of when it has changed since its last message and come to rest, under the next revision;
- closing raises `closings`, which is the revision of the closing message.
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from crow_receiver.messages.coverage import Coverage
from crow_receiver.messages.envelope import queue_message
from crow_receiver.messages.inputs import AnalysedFrame, SessionFacts
from crow_receiver.messages.interaction import InteractionBatch, batch_has_room, interaction_batch
from crow_receiver.messages.pattern import MINUTE_US, PatternWindow, pattern_window, session_summary
from crow_receiver.queue.port import MAX_MESSAGE_BYTES
from crow_receiver.store import ledger, outbox
from crow_receiver.store.cameras import by_id
from crow_receiver.store.frames import PendingFrame
from crow_receiver.store.store import Transaction
from crow_receiver.vision.schema import Analysis
from crow_shared.frame import TimeSource

REST_FIRST_US = 10_000_000  # a changed window is told of when nothing has changed it for so long, doubled per revision
REST_DOUBLINGS = 5
REST_MOST_US = REST_FIRST_US << REST_DOUBLINGS


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is complete: so many analyses, or its oldest analysis so old. The size bound is a constant."""

    frames: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a frame: an analysis, or the reason why there is none."""

    frame: PendingFrame
    analysis: Analysis | None = None
    failure: str | None = None


@dataclass(slots=True)
class SessionState:
    """What the actor decides by. Frames that arrived later than this was read are added by the actor."""

    pending: int
    unbatched: int
    oldest_unbatched_us: int | None
    windows_due_us: int | None  # when the first changed window whose minute is over has come to rest
    is_open: bool
    reopened: bool  # it had been closed before

    def due(self, now_us: int, limits: BatchLimits) -> bool:
        """Whether there is a batch or a window to write."""
        return self.windows_due(now_us) or self.batch_due(now_us, limits)

    def windows_due(self, now_us: int) -> bool:
        """Whether there is a window to write; what seems far ahead was noted by a clock that has been set back."""
        due_us = self.windows_due_us
        return due_us is not None and not due_us - REST_MOST_US <= now_us < due_us

    def batch_due(self, now_us: int, limits: BatchLimits) -> bool:
        """Whether the analyses that wait make a batch."""
        if self.unbatched >= limits.frames:
            return True
        oldest_us = self.oldest_unbatched_us  # ahead of now after a clock was set back: then it is due as well
        return oldest_us is not None and not 0 <= now_us - oldest_us < limits.age_s * 1_000_000


@dataclass(frozen=True, slots=True)
class Revised:
    """Batches of a session that were told again, and those that would have been too large for a message."""

    batches: int
    too_large: int


def open_sessions(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """(session id, camera row) of every session that is open."""
    return db.execute("select id, camera from session where state = 'open' order by first_capture_us").fetchall()


def resume(db: sqlite3.Connection, session_id: str) -> tuple[SessionState, int]:
    """The state of a session and the time of its last arrival in µs of the receiver's clock."""
    (last_arrival_us,) = db.execute("select last_arrival_us from session where id = ?", (session_id,)).fetchone()
    return _state(db, session_id), last_arrival_us


def record(
    tx: Transaction, session_id: str, outcomes: Sequence[Outcome], limits: BatchLimits, now_us: int
) -> tuple[SessionState, bool]:
    """Records outcomes and writes the batches and windows that are due; the state after that, and whether any was."""
    for outcome in outcomes:
        _record_outcome(tx.db, session_id, outcome, now_us)
    state = _state(tx.db, session_id)
    told = state.due(now_us, limits)
    while state.batch_due(now_us, limits):
        _write_batch(tx.db, session_id, limits, now_us)
        state = _state(tx.db, session_id)
    if state.windows_due(now_us):
        _write_windows(tx.db, session_id, now_us, closing=False)
        state = _state(tx.db, session_id)
    return state, told


def close(db: sqlite3.Connection, session_id: str, limits: BatchLimits, now_us: int) -> bool:
    """Writes what is left and closes the session; False, with nothing done, when frames still wait for analysis.

    Closing a closed session changes nothing.
    """
    state = _state(db, session_id)
    if state.pending:
        return False
    if not state.is_open:
        return True
    while _state(db, session_id).unbatched:
        _write_batch(db, session_id, limits, now_us)
    _write_windows(db, session_id, now_us, closing=True)
    facts, closings, batches = _facts(db, session_id)
    (ended_us,) = db.execute("select last_capture_us from session where id = ?", (session_id,)).fetchone()
    (minutes,) = db.execute("select count(*) from pattern_window where session_id = ?", (session_id,)).fetchone()
    frames, failed = _analysed(db, session_id), _failed(db, session_id)
    coverage = _coverage(db, session_id, ledger.touched(facts.started_us, ended_us), now_us)
    counts = {"batches": batches, "minutes": minutes, "revision": closings}
    summary = session_summary(facts, ended_us, frames, failed, coverage, **counts)
    _put(db, session_id, summary, now_us)
    db.execute(
        "update session set state = 'closed', closings = closings + 1, closed_us = ? where id = ?", (now_us, session_id)
    )
    return True


def revise(
    db: sqlite3.Connection, session_id: str, run: int, revision: int, limits: BatchLimits, now_us: int
) -> Revised:
    """Tells of the session again with a reanalysis's answers, those of its batches that have any; to be done once.

    Frames without an answer of the run stay as they were told. Minutes that changed are told with their next revision,
    as is a session that is closed; one that is open does so by itself.
    """
    batches = db.execute(
        """select distinct batch_index from analysis join reanalysed as r on r.run = ? and r.frame = analysis.frame
           where analysis.session_id = ? and batch_index is not null and r.body is not null order by 1""",
        (run, session_id),
    ).fetchall()
    told = sum(_revise_batch(db, session_id, batch_index, run, revision, now_us) for (batch_index,) in batches)
    (state,) = db.execute("select state from session where id = ?", (session_id,)).fetchone()
    if told and state == "closed":
        db.execute("update session set state = 'open' where id = ?", (session_id,))
        closed = close(db, session_id, limits, now_us)
        assert closed, "no frame of a closed session waits"
    return Revised(told, len(batches) - told)


def _revise_batch(
    db: sqlite3.Connection, session_id: str, batch_index: int, run: int, revision: int, now_us: int
) -> bool:
    """Whether the batch was told again: one that would be larger than a message may be stays as it is."""
    facts, closings, _ = _facts(db, session_id)
    rows = db.execute(
        f"""select {_FACTS}, coalesce((select body from reanalysed where run = ?1 and frame = frame.id), {_SAID})
           from analysis join frame on frame.id = analysis.frame
           where analysis.session_id = ?2 and batch_index = ?3""",  # noqa: S608 — constants
        (run, session_id, batch_index),
    )
    frames = [_frame(row, facts.sample_interval_ms) for row in rows]
    touched = {frame.capture_us // MINUTE_US * MINUTE_US for frame in frames}
    coverage = _coverage(db, session_id, touched, now_us)
    body = interaction_batch(facts, batch_index, frames, coverage, late=closings > 0, revision=revision)
    message = queue_message(body)
    if len(message.body) > MAX_MESSAGE_BYTES:
        return False
    outbox.put(db, session_id, message, now_us)
    db.execute(
        """update analysis set told_run = ?1 where session_id = ?2 and batch_index = ?3
           and frame in (select frame from reanalysed where run = ?1 and session_id = ?2 and body is not null)""",
        (run, session_id, batch_index),
    )
    db.executemany(
        "update pattern_window set changed = 1, changed_us = ? where session_id = ? and minute_us = ?",
        [(now_us, session_id, minute_us) for minute_us in touched],
    )
    return True


def _record_outcome(db: sqlite3.Connection, session_id: str, outcome: Outcome, now_us: int) -> None:
    frame = outcome.frame
    state = "failed" if outcome.analysis is None else "analysed"
    changed = db.execute(
        "update frame set state = ?, failure = ? where id = ? and state = 'pending'", (state, outcome.failure, frame.id)
    )
    if not changed.rowcount:  # told twice
        return
    if outcome.analysis is not None:
        db.execute(
            "insert into analysis (frame, session_id, body, analysed_us) values (?, ?, ?, ?)",
            (frame.id, session_id, outcome.analysis.model_dump_json(), now_us),
        )
    db.execute(
        """insert into pattern_window (session_id, minute_us, changed, changed_us) values (?, ?, 1, ?)
           on conflict do update set changed = 1, changed_us = excluded.changed_us""",
        (session_id, frame.capture_us // MINUTE_US * MINUTE_US, now_us),
    )


def _state(db: sqlite3.Connection, session_id: str) -> SessionState:
    (pending,) = db.execute(
        "select count(*) from frame where session_id = ? and state = 'pending'", (session_id,)
    ).fetchone()
    unbatched, oldest_us = db.execute(
        "select count(*), min(analysed_us) from analysis where session_id = ? and batch_index is null", (session_id,)
    ).fetchone()
    is_open, closings = db.execute(
        "select state = 'open', closings from session where id = ?", (session_id,)
    ).fetchone()
    rests = [due_us for _, _, due_us in _changed_windows(db, session_id, closing=False)]
    return SessionState(pending, unbatched, oldest_us, min(rests, default=None), bool(is_open), closings > 0)


def _write_batch(db: sqlite3.Connection, session_id: str, limits: BatchLimits, now_us: int) -> None:
    facts, closings, batch_index = _facts(db, session_id)
    waiting = db.execute(
        f"""select frame.id, {_ANALYSED} from analysis join frame on frame.id = analysis.frame
           where analysis.session_id = ? and batch_index is null order by frame.id limit ?""",  # noqa: S608 — constant
        (session_id, limits.frames),
    ).fetchall()
    batch: list[AnalysedFrame] = []
    for _, *row in waiting:
        frame = _frame(row, facts.sample_interval_ms)
        if not batch_has_room(facts, batch, frame):
            break
        batch.append(frame)
    touched = {frame.capture_us // MINUTE_US * MINUTE_US for frame in batch}
    coverage = _coverage(db, session_id, touched, now_us)
    body = interaction_batch(facts, batch_index, batch, coverage, late=closings > 0)
    _put(db, session_id, body, now_us)
    db.executemany(
        "update analysis set batch_index = ? where frame = ?",
        [(batch_index, frame_id) for frame_id, *_ in waiting[: len(batch)]],
    )
    db.execute("update session set batches = batches + 1 where id = ?", (session_id,))


def _write_windows(db: sqlite3.Connection, session_id: str, now_us: int, *, closing: bool) -> None:
    facts, _, _ = _facts(db, session_id)
    for minute_us, revision, due_us in _changed_windows(db, session_id, closing=closing):
        if not closing and due_us - REST_MOST_US <= now_us < due_us:
            continue
        span = (minute_us, minute_us + MINUTE_US)
        frames, failed = _analysed(db, session_id, span), _failed(db, session_id, span)
        coverage = _coverage(db, session_id, [minute_us], now_us)
        window = pattern_window(facts, minute_us, frames, failed, coverage, revision)
        _put(db, session_id, window, now_us)
        db.execute(
            "update pattern_window set changed = 0, revision = ? where session_id = ? and minute_us = ?",
            (revision, session_id, minute_us),
        )


def _changed_windows(db: sqlite3.Connection, session_id: str, *, closing: bool) -> list[tuple[int, int, int]]:
    """(minute, next revision, when it has come to rest) of changed windows.

    Those of finished minutes without a waiting frame, or all at the end. The rest doubles with each revision, so that
    a backlog that trickles in does not lead to a revision for each frame.
    """
    return db.execute(
        f"""select minute_us, revision + 1, changed_us + ({REST_FIRST_US} << min(revision + 1, {REST_DOUBLINGS}))
            from pattern_window as w
            where session_id = ?1 and changed = 1 and (?2 or (
                minute_us + {MINUTE_US} <= (select last_capture_us from session where id = ?1)
                and not exists (select 1 from frame where session_id = ?1 and state = 'pending'
                    and capture_us >= w.minute_us and capture_us < w.minute_us + {MINUTE_US})))
            order by minute_us""",  # noqa: S608 — constants
        (session_id, closing),
    ).fetchall()


def _facts(db: sqlite3.Connection, session_id: str) -> tuple[SessionFacts, int, int]:
    """The facts of a session, its closings so far and its next batch's index."""
    camera_row, started_us, closings, batches = db.execute(
        "select camera, first_capture_us, closings, batches from session where id = ?", (session_id,)
    ).fetchone()
    camera = by_id(db, camera_row)
    return (
        SessionFacts(session_id, camera.key, camera.name, started_us, camera.sample_interval_ms),
        closings,
        batches,
    )


# What is told of a frame: of its analyses the one that an operator dispatched last.
_SAID = """coalesce((select body from reanalysed as r where r.run = analysis.told_run and r.frame = analysis.frame),
               analysis.body)"""
_FACTS = "frame_index, capture_us, time_source, clock_skew_us, masked, blurred"
_ANALYSED = f"{_FACTS}, {_SAID}"
_ALL_TIMES = (-(2**62), 2**62)


def _analysed(db: sqlite3.Connection, session_id: str, span: tuple[int, int] = _ALL_TIMES) -> list[AnalysedFrame]:
    """The session's analysed frames, each standing for the samples that were left out beside it at our wish, too."""
    (camera, interval_ms) = db.execute(
        "select camera, sample_interval_ms from session join camera on camera.id = camera where session.id = ?",
        (session_id,),
    ).fetchone()
    shares = ledger.degraded_shares(db, camera, *span)
    rows = db.execute(
        f"""select {_ANALYSED} from frame join analysis on analysis.frame = frame.id
           where frame.session_id = ? and capture_us >= ? and capture_us < ? order by capture_us""",  # noqa: S608
        (session_id, *span),
    )
    return [_frame(row, round(interval_ms * shares.get(row[1] // MINUTE_US * MINUTE_US, 1))) for row in rows]


def _coverage(db: sqlite3.Connection, session_id: str, minutes: Collection[int], now_us: int) -> Coverage:
    (camera,) = db.execute("select camera from session where id = ?", (session_id,)).fetchone()
    return Coverage.of(ledger.sums(db, camera, minutes), len(minutes), now_us)


def _failed(db: sqlite3.Connection, session_id: str, span: tuple[int, int] = _ALL_TIMES) -> int:
    (failed,) = db.execute(
        "select count(*) from frame where session_id = ? and state = 'failed' and capture_us >= ? and capture_us < ?",
        (session_id, *span),
    ).fetchone()
    return int(failed)


def _frame(row: Sequence[Any], stands_for_ms: int) -> AnalysedFrame:
    """The frame of a row of `_ANALYSED`."""
    index, capture_us, time_source, skew_us, masked, blurred, body = row
    hidden = (bool(masked), bool(blurred))
    said = Analysis.model_validate_json(body)
    return AnalysedFrame(index, capture_us, TimeSource(time_source), skew_us, *hidden, said, stands_for_ms)


def _put(db: sqlite3.Connection, session_id: str, body: InteractionBatch | PatternWindow, now_us: int) -> None:
    outbox.put(db, session_id, queue_message(body), now_us)
