"""What became of a camera's samples, by minute, as its daemon says.

Invariants
1. Of a minute the highest revision is kept, whatever order they come in and however often.
2. expected == sent + gated + dropped, for each minute and so for every sum.
3. A minute that changes after a message has told of it makes that message be told again, under its next revision.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crow_receiver.store.cameras import CameraRow, every
from crow_receiver.store.sessions import HOUR_US
from crow_shared.samples import DEGRADED, seen_percent

MINUTE_US = 60_000_000
LAST_HOUR_US = 60 * MINUTE_US


@dataclass(frozen=True, slots=True)
class LedgerMinute:
    """One minute of one camera; `minute_us` is its start, of capture time."""

    minute_us: int
    revision: int
    expected: int
    sent: int
    gated: Mapping[str, int]
    dropped: Mapping[str, int]
    alerts: Sequence[str]


@dataclass(slots=True)
class LedgerSums:
    """Samples of the minutes that are known, and how many these are."""

    minutes: int = 0
    expected: int = 0
    sent: int = 0
    gated: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    alerts: set[str] = field(default_factory=set)

    def add(self, minute: LedgerMinute) -> None:
        """One minute more."""
        self.minutes += 1
        self.expected += minute.expected
        self.sent += minute.sent
        self.gated.update(minute.gated)
        self.dropped.update(minute.dropped)
        self.alerts.update(minute.alerts)

    @property
    def seen_percent(self) -> float | None:
        """How many in a hundred were sent, or seen and not worth sending; None when none was expected."""
        return seen_percent(self.expected, self.sent, self.gated)


def touched(first_us: int, last_us: int) -> Sequence[int]:
    """The minutes of a stretch of time that has at least one moment, both its ends in it."""
    return range(first_us // MINUTE_US * MINUTE_US, last_us + 1, MINUTE_US)


def store_minutes(db: sqlite3.Connection, camera: int, minutes: Iterable[LedgerMinute], now_us: int) -> list[str]:
    """Keeps what is news; returns the sessions that have to tell again what they told. A closed one is open again."""
    changed = [minute.minute_us for minute in minutes if _store(db, camera, minute, now_us)]
    sessions: dict[str, None] = {}
    for minute_us in changed:
        touched = db.execute(
            """select id, state from session where camera = ? and hour_us = ? and state <> 'expiring'
               and first_capture_us < ? and last_capture_us >= ?""",
            (camera, minute_us // HOUR_US * HOUR_US, minute_us + MINUTE_US, minute_us),
        ).fetchall()
        for session_id, state in touched:
            # One that has changed anyhow is told with this when it comes to rest.
            told = db.execute(
                """update pattern_window set changed = 1, changed_us = ?
                   where session_id = ? and minute_us = ? and changed = 0""",
                (now_us, session_id, minute_us),
            )
            if state == "closed":
                db.execute("update session set state = 'open', closed_us = null where id = ?", (session_id,))
            if state == "closed" or told.rowcount:
                sessions[session_id] = None
    return list(sessions)


def sums(db: sqlite3.Connection, camera: int, minutes: Collection[int]) -> LedgerSums:
    """Of these minutes."""
    found = LedgerSums()
    if minutes:
        wanted = set(minutes)
        for minute in _minutes(db, camera, min(wanted), max(wanted) + 1):
            if minute.minute_us in wanted:
                found.add(minute)
    return found


def sums_between(db: sqlite3.Connection, camera: int, from_us: int, to_us: int) -> LedgerSums:
    """Of the minutes that begin at `from_us` or later and before `to_us`."""
    found = LedgerSums()
    for minute in _minutes(db, camera, from_us, to_us):
        found.add(minute)
    return found


def last_hour(db: sqlite3.Connection, now_us: int) -> list[tuple[CameraRow, LedgerSums]]:
    """Of every camera, over the minutes that began in the last hour."""
    span = (now_us - LAST_HOUR_US, now_us + 1)
    return [(camera, sums_between(db, camera.id, *span)) for camera in every(db)]


def degraded_shares(db: sqlite3.Connection, camera: int, from_us: int, to_us: int) -> dict[int, float]:
    """By minute, for how many samples one stands that was not left out at this receiver's wish; without it: one."""
    return {
        minute.minute_us: 1 + minute.dropped[DEGRADED] / kept
        for minute in _minutes(db, camera, from_us, to_us)
        if minute.dropped.get(DEGRADED) and (kept := minute.sent + sum(minute.gated.values()))
    }


def _store(db: sqlite3.Connection, camera: int, minute: LedgerMinute, now_us: int) -> bool:
    """Whether the minute's counts are others now."""
    counts = (minute.expected, minute.sent, _json(minute.gated), _json(minute.dropped), json.dumps(minute.alerts))
    before = db.execute(
        "select revision, expected, sent, gated, dropped, alerts from ledger where camera = ? and minute_us = ?",
        (camera, minute.minute_us),
    ).fetchone()
    if before is not None and before[0] >= minute.revision:
        return False
    db.execute(
        """insert or replace into ledger
               (camera, minute_us, revision, expected, sent, gated, dropped, alerts, received_us)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (camera, minute.minute_us, minute.revision, *counts, now_us),
    )
    return before is None or before[1:] != counts


def _minutes(db: sqlite3.Connection, camera: int, from_us: int, to_us: int) -> list[LedgerMinute]:
    rows = db.execute(
        """select minute_us, revision, expected, sent, gated, dropped, alerts from ledger
           where camera = ? and minute_us >= ? and minute_us < ? order by minute_us""",
        (camera, from_us, to_us),
    )
    return [
        LedgerMinute(minute_us, revision, expected, sent, json.loads(gated), json.loads(dropped), json.loads(alerts))
        for minute_us, revision, expected, sent, gated, dropped, alerts in rows.fetchall()
    ]


def _json(by_reason: Mapping[str, int]) -> str:
    return json.dumps(dict(sorted(by_reason.items())))
