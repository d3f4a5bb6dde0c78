"""ledger.db: what became of samples, durable.

Invariants
1. Minutes and standings that were taken together are written together.
2. A revision is the time of its writing, and higher than every one before, whatever the clock does.
3. A minute is kept for `KEEP_US` after it changed last, and for `KEEP_UNTOLD_US` while the receiver does not have it.
"""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from crow_daemon.ledger.account import RecordingStanding, Standing
from crow_daemon.ledger.book import Taken
from crow_daemon.ledger.migrations import migrations
from crow_daemon.ledger.tally import LedgerMark, Tally, WrittenMinute
from crow_shared.database import open_database, transaction, translated_errors
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

DAY_US = 24 * 3_600_000_000
KEEP_US = 7 * DAY_US
KEEP_UNTOLD_US = 31 * DAY_US
MOST_COUNTED = 10_000  # after weeks without a receiver there are a million, and the status counts them every 2 s

_WRITE_STANDING = """
    insert into camera (camera_id, spooled, interval_us, due_us, recording_us, accounted_us, sent_us, spooled_us)
    values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict do update set (spooled, interval_us, due_us, recording_us, accounted_us, sent_us, spooled_us) =
        (excluded.spooled, excluded.interval_us, excluded.due_us,
            excluded.recording_us, excluded.accounted_us, excluded.sent_us, excluded.spooled_us)
    where (spooled, interval_us, due_us, recording_us, accounted_us, sent_us, spooled_us) is not
        (excluded.spooled, excluded.interval_us, excluded.due_us,
            excluded.recording_us, excluded.accounted_us, excluded.sent_us, excluded.spooled_us)"""


class LedgerDatabase:
    """Thread-safe. Everything raises CrowError(UNAVAILABLE) when the disk refuses, CrowError(CORRUPT) on damage."""

    def __init__(self, path: Path) -> None:
        """Opens the file, made if missing."""
        self._db = open_database(path, migrations)
        self._path = path
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises CrowError(CORRUPT) when the file is damaged."""
        with self._lock, translated_errors(str(self._path)):
            (said,) = self._db.execute("pragma quick_check(1)").fetchone()
        if said != "ok":
            self.close()
            raise CrowError(Kind.CORRUPT, "database_corrupt", f"{self._path} is damaged: {said}")

    def standings(self) -> dict[str, Standing] | None:
        """How far each camera was accounted for when that was written last; None when it never was."""
        with self._lock, translated_errors(str(self._path)):
            if self._db.execute("select 1 from written").fetchone() is None:
                return None
            rows = self._db.execute(
                """select camera_id, spooled, interval_us, due_us, recording_us, accounted_us, sent_us, spooled_us
                   from camera"""
            )
            return {row[0]: _standing(*row[1:]) for row in rows}

    def write(self, taken: Taken, now_us: int) -> None:
        """Adds what was taken to what is there."""
        with self._lock, translated_errors(str(self._path)), transaction(self._db) as db:
            before = db.execute("select revision from written").fetchone()
            revision = now_us if before is None else max(now_us, before[0] + 1)
            db.execute("delete from written")
            db.execute("insert into written values (?)", (revision,))
            for (camera_id, minute_us), tally in taken.minutes.tallies.items():
                _add(db, camera_id, minute_us, tally, revision)
            db.executemany(
                _WRITE_STANDING, [_standing_row(camera_id, standing) for camera_id, standing in taken.standings.items()]
            )

    def renumbered(self, frames: Mapping[str, int]) -> None:
        """So many frames of each camera, which are booked as sent, have got another number."""
        with self._lock, translated_errors(str(self._path)), transaction(self._db) as db:
            db.executemany(
                "update camera set spooled = spooled + ? where camera_id = ?",
                [(moved, camera_id) for camera_id, moved in frames.items()],
            )

    def untold(self, limit: int) -> list[WrittenMinute]:
        """Minutes that the receiver does not have as they are now, those that changed first."""
        with self._lock, translated_errors(str(self._path)):
            rows = self._db.execute(
                """select camera_id, minute_us, revision, sent, gated, dropped, alerts from minute
                   where told_revision < revision order by revision limit ?""",
                (limit,),
            ).fetchall()
        return [
            WrittenMinute(camera_id, minute_us, revision, _tally(*counts))
            for camera_id, minute_us, revision, *counts in rows
        ]

    def untold_minutes(self) -> int:
        """How many there are of those; `MOST_COUNTED` stands for that many or more."""
        with self._lock, translated_errors(str(self._path)):
            count = self._db.execute(
                "select count(*) from (select 1 from minute where told_revision < revision limit ?)", (MOST_COUNTED,)
            ).fetchone()
        return int(count[0])

    def told(self, marks: Iterable[LedgerMark]) -> None:
        """The receiver has these."""
        with self._lock, translated_errors(str(self._path)), transaction(self._db) as db:
            db.executemany(
                """update minute set told_revision = max(told_revision, ?1) where minute_us = ?2 and camera_id = ?3""",
                [(mark.revision, mark.minute_us, mark.camera_id) for mark in marks],
            )

    def sums(self, from_us: int) -> Mapping[str, Tally]:
        """What became of the samples of each camera from the minute of `from_us` on."""
        with self._lock, translated_errors(str(self._path)):
            rows = self._db.execute(
                "select camera_id, sent, gated, dropped, alerts from minute where minute_us >= ?", (from_us,)
            ).fetchall()
        found: dict[str, Tally] = {}
        for camera_id, *counts in rows:
            found.setdefault(camera_id, Tally()).add(_tally(*counts))
        return found

    def let_go_old(self, now_us: int) -> None:
        """Forgets what is kept no longer."""
        with self._lock, translated_errors(str(self._path)), transaction(self._db) as db:
            db.execute("delete from minute where told_revision >= revision and revision < ?", (now_us - KEEP_US,))
            untold = db.execute("delete from minute where revision < ?", (now_us - KEEP_UNTOLD_US,))
        if untold.rowcount:
            log.warning("sample ledger that the receiver never took is let go", minutes=untold.rowcount)

    def close(self) -> None:
        """Gives the file back."""
        with self._lock:
            self._db.close()


def note_renumbered(path: Path, frames: Mapping[str, int]) -> None:
    """Lets the ledger of a stopped daemon know that the spool gave these frames, by camera, other numbers."""
    if frames and path.exists():
        database = LedgerDatabase(path)
        database.renumbered(frames)
        database.close()


def _add(db: sqlite3.Connection, camera_id: str, minute_us: int, tally: Tally, revision: int) -> None:
    row = db.execute(
        "select sent, gated, dropped, alerts from minute where minute_us = ? and camera_id = ?", (minute_us, camera_id)
    ).fetchone()
    if row is not None:
        tally = _sum(_tally(*row), tally)
    dropped = +tally.dropped  # less than none: of a minute that was set aside with a damaged file
    counts = (tally.sent, json.dumps(tally.gated), json.dumps(dropped), json.dumps(sorted(tally.alerts)))
    db.execute(
        """insert into minute (minute_us, camera_id, revision, told_revision, sent, gated, dropped, alerts)
           values (?, ?, ?, 0, ?, ?, ?, ?)
           on conflict do update set revision = excluded.revision, sent = excluded.sent, gated = excluded.gated,
               dropped = excluded.dropped, alerts = excluded.alerts""",
        (minute_us, camera_id, revision, *counts),
    )


def _standing(
    spooled: int,
    interval_us: int,
    due_us: int | None,
    recording_us: int | None,
    accounted_us: int,
    sent_us: int | None,
    spooled_us: int,
) -> Standing:
    recording = None if recording_us is None else RecordingStanding(recording_us, accounted_us, sent_us, spooled_us)
    return Standing(spooled, interval_us, due_us, recording)


def _standing_row(camera_id: str, standing: Standing) -> tuple[str | int | None, ...]:
    read = standing.recording
    live = (camera_id, standing.spooled, standing.interval_us, standing.due_us)
    if read is None:
        return (*live, None, None, None, None)
    return (*live, read.start_us, read.accounted_us, read.sent_us, read.spooled_us)


def _sum(one: Tally, other: Tally) -> Tally:
    one.add(other)
    return one


def _tally(sent: int, gated: str, dropped: str, alerts: str) -> Tally:
    return Tally(sent, Counter(json.loads(gated)), Counter(json.loads(dropped)), set(json.loads(alerts)))
