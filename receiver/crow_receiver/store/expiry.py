"""Records go when their time is over; what remains is which numbers they were.

1. A session goes once it is closed, all its messages are dispatched and no erasure is at work on it: frames, analyses
   and what reanalyses said, windows, outbox rows, then itself, with the reanalyses that have no session left. It takes
   several transactions, so that writers do not stall.
2. Meanwhile it is `expiring`: a frame that comes for it has to come again later, and then opens a session of its own.
3. The numbers of a stream's frames and missing ones are kept as `expired` ranges in the transaction that lets them go;
   adjoining ranges are one row. They go with the stream's position, a year after that was used last.
4. The sample ledger holds counts alone. A minute of it goes when its time is over and no session as old is kept.
5. Uploads are numbered by their senders, with no telling what is between: nothing is kept of them.
"""

import sqlite3
from collections.abc import Iterable, Iterator

from crow_receiver.store.pictures import take_pictures
from crow_receiver.store.store import Transaction
from crow_shared.segments import Pointer

# One that is half gone goes on, whatever the clock or the settings say by now: its frames would be sent back for ever.
_NEXT_SESSION = """
    select id from session as s
    where camera = ? and state <> 'open' and (closed_us < ? or state = 'expiring') and not exists (
        select 1 from outbox where session_id = s.id and dispatched_us is null) and not exists (
        select 1 from erasure_message where session_id = s.id and outcome is null)
    order by closed_us limit 1"""

_OLD_MISSING = "select camera, epoch, from_seq, to_seq from missing where recorded_us < ? order by recorded_us limit ?"

POSITION_KEEP_US = 366 * 24 * 3600 * 1_000_000  # also of erasures and their receipts


def expire_session(tx: Transaction, camera: int, closed_before_us: int, most: int) -> bool:
    """Lets up to `most` frames of the camera's oldest session that was closed before then go; False: none is due."""
    row = tx.db.execute(_NEXT_SESSION, (camera, closed_before_us)).fetchone()
    if row is None:
        return False
    (session_id,) = row
    frames = tx.db.execute(
        """select id, epoch, seq, segment, "offset", length, crc32 from frame where session_id = ?
           order by epoch, seq limit ?""",
        (session_id, most),
    ).fetchall()
    take_pictures(tx, [(row_id, Pointer(*place)) for row_id, _, _, *place in frames if place[0] is not None])
    for table, key in (("analysis", "frame"), ("reanalysed", "frame"), ("frame", "id")):
        tx.db.executemany(f"delete from {table} where {key} = ?", [(row_id,) for row_id, *_ in frames])  # noqa: S608
    _keep_numbers(tx.db, camera, ((epoch, seq, seq) for _, epoch, seq, *_ in frames))
    if len(frames) < most:
        for table in ("pattern_window", "outbox", "reanalysis_session"):
            tx.db.execute(f"delete from {table} where session_id = ?", (session_id,))  # noqa: S608 — constants
        tx.db.execute("delete from session where id = ?", (session_id,))
        tx.db.execute("delete from reanalysis where id not in (select run from reanalysis_session)")
    else:
        tx.db.execute("update session set state = 'expiring' where id = ?", (session_id,))
    return True


def expire_missing(tx: Transaction, recorded_before_us: int, most: int) -> bool:
    """Lets up to `most` reasons for missing numbers go that were recorded before then; False when none is due."""
    rows = tx.db.execute(_OLD_MISSING, (recorded_before_us, most)).fetchall()
    tx.db.executemany(
        "delete from missing where camera = ? and epoch = ? and from_seq = ?", [tuple(row[:3]) for row in rows]
    )
    for camera, *numbers in rows:
        _keep_numbers(tx.db, camera, [tuple(numbers)])
    return bool(rows)


def expire_ledger(tx: Transaction, camera: int, received_before_us: int) -> None:
    """Lets minutes of the camera's sample ledger go that came before then and belong to no session that is kept."""
    tx.db.execute(
        """delete from ledger where camera = ?1 and received_us < ?2
           and minute_us < coalesce((select min(hour_us) from session where camera = ?1), minute_us + 1)""",
        (camera, received_before_us),
    )


def forget_old_streams(tx: Transaction, now_us: int) -> None:
    """Forgets positions that were not used for a year, with their numbers, and erasures as old as that."""
    before_us = now_us - POSITION_KEEP_US
    for table in ("expired", "missing"):
        tx.db.execute(
            f"delete from {table} where (camera, epoch) in (select camera, epoch from position where used_us < ?)",  # noqa: S608
            (before_us,),
        )
    tx.db.execute("delete from position where used_us < ?", (before_us,))
    tx.db.execute(
        "delete from erasure_message where erasure in (select id from erasure where done_us < ?)", (before_us,)
    )
    tx.db.execute("delete from erasure where done_us < ?", (before_us,))


def _keep_numbers(db: sqlite3.Connection, camera: int, numbers: Iterable[tuple[str, int, int]]) -> None:
    for epoch, from_seq, to_seq in _joined(numbers):
        stream = (camera, epoch)
        if not db.execute("select 1 from position where camera = ? and epoch = ?", stream).fetchone():
            continue
        before = db.execute(
            "select from_seq, to_seq from expired where camera = ? and epoch = ? and from_seq < ? "
            "order by from_seq desc limit 1",
            (*stream, from_seq),
        ).fetchone()
        after = db.execute(
            "select to_seq from expired where camera = ? and epoch = ? and from_seq = ?", (*stream, to_seq + 1)
        ).fetchone()
        first = before[0] if before and before[1] == from_seq - 1 else from_seq
        last = after[0] if after else to_seq
        db.execute(
            "delete from expired where camera = ? and epoch = ? and from_seq between ? and ?", (*stream, first, last)
        )
        db.execute("insert into expired (camera, epoch, from_seq, to_seq) values (?, ?, ?, ?)", (*stream, first, last))


def _joined(numbers: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """Adjoining ranges as one; they come in rising order within an epoch."""
    held: tuple[str, int, int] | None = None
    for epoch, from_seq, to_seq in numbers:
        if held is not None and held[0] == epoch and held[2] + 1 == from_seq:
            held = (epoch, held[1], to_seq)
            continue
        if held is not None:
            yield held
        held = (epoch, from_seq, to_seq)
    if held is not None:
        yield held
