"""What an operator has erased: requests, what is done of them, and their receipts.

Invariants
1. From the request on no frame of its camera and span is stored; its number becomes a missing one.
2. An erased frame keeps its numbers and its times alone. Its picture's bytes are gone before its row says so.
3. A message that told of an erased frame is noted with the transaction that erases the frame, until the queue has been
   gone through. In the outbox its body is changed in that transaction.
4. All of it may be done again after a crash: what is erased already is passed over.
"""

import sqlite3
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from crow_receiver.messages.interaction import with_frames
from crow_receiver.messages.pattern import MINUTE_US
from crow_receiver.store import outbox
from crow_receiver.store.sessions import HOUR_US
from crow_receiver.store.store import Transaction
from crow_shared.identity import CameraKey
from crow_shared.segments import Pointer


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request, and what is gone so far; times in µs since the Unix epoch, the span's end excluded."""

    id: str
    camera_row: int
    camera: CameraKey
    from_us: int
    to_us: int
    reason: str
    requested_us: int
    frames: int
    pictures: int
    analyses: int
    receipt: str | None  # JSON, once all is done

    def facts(self) -> dict[str, Any]:
        """What was asked for, and how much of it is gone, in plain JSON values."""
        return {
            "id": self.id,
            "camera": str(self.camera),
            "from_us": self.from_us,
            "to_us": self.to_us,
            "reason": self.reason,
            "requested_us": self.requested_us,
            "frames": self.frames,
            "pictures": self.pictures,
            "analyses": self.analyses,
        }


_SELECT = """
    select e.id, c.id, organization_id, site_id, camera_id, from_us, to_us, reason, requested_us, frames, pictures,
        analyses, receipt
    from erasure as e join camera as c on c.id = e.camera"""


def request(db: sqlite3.Connection, camera: int, from_us: int, to_us: int, reason: str, now_us: int) -> str:
    """Asks for an erasure; returns its id."""
    erasure_id = uuid.uuid4().hex
    db.execute(
        "insert into erasure (id, camera, from_us, to_us, reason, requested_us) values (?, ?, ?, ?, ?, ?)",
        (erasure_id, camera, from_us, to_us, reason, now_us),
    )
    return erasure_id


def every(db: sqlite3.Connection) -> list[Erasure]:
    """All erasures, the oldest first."""
    return _rows(db, "order by requested_us")


def under_way(db: sqlite3.Connection) -> list[Erasure]:
    """Those that are not done, the oldest first."""
    return _rows(db, "where done_us is null order by requested_us")


def by_id(db: sqlite3.Connection, erasure_id: str) -> Erasure:
    """The erasure of this id."""
    return _rows(db, "where e.id = ?", erasure_id)[0]


def _rows(db: sqlite3.Connection, which: str, *values: str) -> list[Erasure]:
    return [
        Erasure(erasure_id, row_id, CameraKey(*rest[:3]), *rest[3:])
        for erasure_id, row_id, *rest in db.execute(f"{_SELECT} {which}", values)
    ]


def spans(db: sqlite3.Connection, camera: int) -> list[tuple[int, int]]:
    """The stretches of capture time of which this camera's frames were erased, their ends excluded."""
    return db.execute("select from_us, to_us from erasure where camera = ?", (camera,)).fetchall()


def sessions_of(db: sqlite3.Connection, erasure: Erasure) -> list[str]:
    """The sessions that may hold frames of the span."""
    rows = db.execute(
        "select id from session where camera = ? and hour_us >= ? and hour_us < ? order by first_capture_us",
        (erasure.camera_row, erasure.from_us // HOUR_US * HOUR_US, erasure.to_us),
    )
    return [session_id for (session_id,) in rows]


@dataclass(frozen=True, slots=True)
class Erased:
    """One step of an erasure; `reopened` when the session had been closed: it has to close with its next revision."""

    frames: int
    reopened: bool


def erase_in_session(tx: Transaction, erasure: Erasure, session_id: str, most: int) -> Erased:
    """Erases up to `most` frames of a session."""
    rows = tx.db.execute(
        """select f.id, capture_us, batch_index, a.frame is not null, segment, "offset", length, crc32
           from frame as f left join analysis as a on a.frame = f.id
           where f.session_id = ? and capture_us >= ? and capture_us < ? and state <> 'erased' limit ?""",
        (session_id, erasure.from_us, erasure.to_us, most),
    ).fetchall()
    if not rows:
        return Erased(0, reopened=False)
    pictures = [Pointer(*row[4:]) for row in rows if row[4] is not None]
    tx.pictures.erase(pictures)
    ids = [(row[0],) for row in rows]
    for table in ("analysis", "reanalysed"):
        tx.db.executemany(f"delete from {table} where frame = ?", ids)  # noqa: S608 — constants
    tx.db.executemany(
        """update frame set state = 'erased', segment = null, "offset" = 0, length = 0, crc32 = 0,
               width = 0, height = 0, failure = null where id = ?""",
        ids,
    )
    for batch_index in sorted({row[2] for row in rows if row[2] is not None}):
        for message_id in outbox.messages_of_batch(tx.db, session_id, batch_index):
            _note_message(tx.db, erasure, session_id, message_id)
    minutes = {row[1] // MINUTE_US * MINUTE_US for row in rows}
    tx.db.executemany(
        "update pattern_window set changed = 1 where session_id = ? and minute_us = ?",
        [(session_id, minute_us) for minute_us in minutes],
    )
    reopened = tx.db.execute(
        "update session set state = 'open', closed_us = null where id = ? and state = 'closed'", (session_id,)
    )
    analyses = sum(row[3] for row in rows)
    tx.db.execute(
        "update erasure set frames = frames + ?, pictures = pictures + ?, analyses = analyses + ? where id = ?",
        (len(rows), len(pictures), analyses, erasure.id),
    )
    return Erased(len(rows), bool(reopened.rowcount))


def _note_message(db: sqlite3.Connection, erasure: Erasure, session_id: str, message_id: str) -> None:
    db.execute(
        """insert into erasure_message (erasure, message_id, session_id, dispatched)
           select ?, message_id, session_id, dispatched_us is not null from outbox where message_id = ?
           on conflict do update set outcome = null""",
        (erasure.id, message_id),
    )
    kept = frames_of_message(db, message_id)
    outbox.rewrite(db, message_id, lambda body: with_frames(body, kept))


def frames_of_message(db: sqlite3.Connection, message_id: str) -> set[int]:
    """The indexes of the frames that a batch's message has to tell of now."""
    session_id, _, batch_index, *_ = message_id.split(":")
    rows = db.execute(
        """select frame_index from frame join analysis on analysis.frame = frame.id
           where frame.session_id = ? and batch_index = ?""",
        (session_id, int(batch_index)),
    )
    return {frame_index for (frame_index,) in rows}


def open_messages(db: sqlite3.Connection, erasure: Erasure, limit: int) -> dict[str, tuple[bool, set[int]]]:
    """Messages that the queue may still hold with erased frames: whether it had them, and the frames to be left."""
    rows = db.execute(
        "select message_id, dispatched from erasure_message where erasure = ? and outcome is null limit ?",
        (erasure.id, limit),
    ).fetchall()
    return {message_id: (bool(dispatched), frames_of_message(db, message_id)) for message_id, dispatched in rows}


def settle_messages(db: sqlite3.Connection, erasure: Erasure, outcomes: dict[str, str]) -> None:
    """What came of messages on the queue: withdrawn, rebuilt or taken."""
    db.executemany(
        "update erasure_message set outcome = ? where erasure = ? and message_id = ?",
        [(outcome, erasure.id, message_id) for message_id, outcome in outcomes.items()],
    )


def message_outcomes(db: sqlite3.Connection, erasure: Erasure) -> tuple[Counter[str], list[str]]:
    """How many messages ended in which way, and the ids of those that consumers had taken."""
    rows = db.execute(
        "select outcome, message_id from erasure_message where erasure = ? order by message_id", (erasure.id,)
    ).fetchall()
    return Counter(outcome for outcome, _ in rows), [message_id for outcome, message_id in rows if outcome == "taken"]


def finish(db: sqlite3.Connection, erasure: Erasure, receipt: str, done_us: int) -> None:
    """All is done."""
    db.execute("update erasure set receipt = ?, done_us = ? where id = ?", (receipt, done_us, erasure.id))
