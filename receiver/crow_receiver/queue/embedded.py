"""The output queues in an SQLite file of their own, for one machine; several processes may use it at once.

1. A message is in exactly one place: waiting (`dead_us` null), dead, or gone with a tombstone.
2. A message id is published once: it is refused while the message is there and for `REMEMBERED_US` after its
   acknowledgement.
3. A delivery counts when it begins, so that a consumer that dies while handling a message uses one up.
4. A lease is good until `visible_us`. After that its acknowledgement is refused, even if nobody else has the message.
5. A message whose deliveries are used up is never handed out: it is dead when the last one fails or its lease ends.
6. `visible_us` is never more than MAX_LEASE_S ahead. One that is was written before the clock was set back, and counts
   as due: a clock that jumps costs a second delivery, never a message.
7. Every change is one immediate transaction: it holds the write lock from its first read, and is on disk on return.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crow_receiver.queue.embedded_schema import migrations
from crow_receiver.queue.port import (
    MAX_LEASE_S,
    MAX_MESSAGE_BYTES,
    MAX_PULL,
    QUEUE_NAMES,
    REMEMBERED_US,
    Delivery,
    Depth,
    Message,
    MessageState,
    Rewriting,
    Settlement,
    StoredMessage,
    Trace,
    Whereabouts,
    checked_queue,
)
from crow_shared.clock import Clock
from crow_shared.database import empty_log, open_database, transaction
from crow_shared.errors import CrowError, Kind

MAX_DELIVERIES = 4  # once and three retries
MAX_FILE_BYTES = 4 << 30
MAX_ERROR_CHARS = 500
_PRUNE_STEP = 100
_LEASE_ENDED = "the lease ended without an acknowledgement"

_DUE = "(visible_us <= :now or visible_us > :latest)"
_TRACE = """
    select message_id, iif(dead_us is null, 'waiting', 'dead'), body from message
        where queue = :queue and message_id in (select value from json_each(:ids))
    union all select message_id, 'taken', null from tombstone
        where queue = :queue and message_id in (select value from json_each(:ids))"""
_REVIVE = (
    "update message set dead_us = null, visible_us = 0, attempts = 0 "
    "where queue = :queue and dead_us is not null and (:message_id is null or message_id = :message_id)"
)


class EmbeddedQueue:
    """Both queues in one file. Methods may be called from any thread; each blocks until its change is on disk."""

    def __init__(
        self, path: Path, clock: Clock, *, max_deliveries: int = MAX_DELIVERIES, max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        """Opens `path`, made if missing. Raises CrowError(UNAVAILABLE) or CrowError(CORRUPT) when that fails.

        Beyond `max_file_bytes` of live data nothing more is published; consuming goes on.
        """
        self._connection = open_database(path, migrations)
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._max_file_bytes = max_file_bytes
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the file; leases go on."""
        with self._lock:
            self._connection.close()

    def publish_many(self, messages: Sequence[Message]) -> list[bool]:
        """Stores all of the messages durably, or none; False for an id that was there already (see OutputQueue)."""
        for message in messages:
            checked_queue(message.queue)
            if len(message.body) > MAX_MESSAGE_BYTES:
                size = f"{len(message.body)} bytes, over {MAX_MESSAGE_BYTES}"
                raise CrowError(Kind.TOO_LARGE, "message_too_large", f"message {message.message_id}: {size}")
        with self._changing() as db:
            self._refuse_when_full(db)
            return [self._insert(db, message) for message in messages]

    def pull(self, queue: str, max_messages: int, lease_s: float) -> list[Delivery]:
        """Leases up to `max_messages`, oldest first, for `lease_s` (see OutputQueue)."""
        checked_queue(queue)
        _within("max_messages", max_messages, 1, MAX_PULL)
        _within("lease_s", lease_s, 0.001, MAX_LEASE_S)
        with self._changing() as db:
            now_us = self._clock.now_us()
            self._bury_ended(db, queue, now_us)
            rows = db.execute(
                f"select id, message_id, attempts, body, headers, enqueued_us from message where queue = :queue "  # noqa: S608 - constant
                f"and dead_us is null and {_DUE} order by id limit :limit",
                {"queue": queue, "limit": max_messages, **_due_at(now_us)},
            ).fetchall()
            until_us = now_us + round(lease_s * 1_000_000)
            leases = [(until_us, attempts + 1, secrets.token_hex(16), row_id) for row_id, _, attempts, *_ in rows]
            db.executemany(
                "update message set visible_us = ?, attempts = ?, seen = 1, lease_id = ? where id = ?", leases
            )
        return [
            Delivery(message_id, lease_id, attempt, body, json.loads(headers), enqueued_us)
            for (_, message_id, _, body, headers, enqueued_us), (_, attempt, lease_id, _) in zip(
                rows, leases, strict=True
            )
        ]

    def ack(self, queue: str, lease_ids: Sequence[str]) -> Settlement:
        """Lets go of the messages for good; reports the leases that had ended (see OutputQueue)."""
        checked_queue(queue)
        with self._changing() as db:
            now_us = self._clock.now_us()
            leased, refused = self._leased(db, queue, lease_ids, now_us)
            for row_id, message_id, _ in leased:
                db.execute("delete from message where id = ?", (row_id,))
                db.execute("insert or replace into tombstone values (?, ?, ?)", (queue, message_id, now_us))
            self._prune(db, now_us, _PRUNE_STEP + len(lease_ids))
        return Settlement(len(leased), refused)

    def retry(self, queue: str, lease_ids: Sequence[str], delay_s: float, error: str) -> Settlement:
        """Gives the messages back for `delay_s`; those without a delivery left become dead (see OutputQueue)."""
        checked_queue(queue)
        _within("delay_s", delay_s, 0, MAX_LEASE_S)
        dead = 0
        with self._changing() as db:
            now_us = self._clock.now_us()
            leased, refused = self._leased(db, queue, lease_ids, now_us)
            for row_id, _, attempts in leased:
                used_up = attempts >= self._max_deliveries
                dead += used_up
                db.execute(
                    "update message set lease_id = null, visible_us = ?, dead_us = ?, error = ? where id = ?",
                    (
                        now_us + round(delay_s * 1_000_000),
                        now_us if used_up else None,
                        error[:MAX_ERROR_CHARS],
                        row_id,
                    ),
                )
        return Settlement(len(leased) - dead, refused, dead)

    def peek(self, queue: str, limit: int) -> list[StoredMessage]:
        """The oldest messages that are not dead, without leasing them."""
        return self._stored(queue, limit, "dead_us is null")

    def dead(self, queue: str, limit: int) -> list[StoredMessage]:
        """The dead letters, the oldest first."""
        return self._stored(queue, limit, "dead_us is not null")

    def replay(self, queue: str, message_ids: Sequence[str] | None = None) -> int:
        """Makes dead letters ready again with all their deliveries; returns how many."""
        checked_queue(queue)
        with self._changing() as db:
            if message_ids is None:
                return db.execute(_REVIVE, {"queue": queue, "message_id": None}).rowcount
            return sum(
                db.execute(_REVIVE, {"queue": queue, "message_id": message_id}).rowcount
                for message_id in dict.fromkeys(message_ids)
            )

    def trace(self, queue: str, message_ids: Sequence[str]) -> dict[str, Trace]:
        """Where these messages are (see OutputQueue)."""
        checked_queue(queue)
        wanted = {"queue": queue, "ids": json.dumps(list(message_ids))}
        with self._guarded() as db:
            rows = db.execute(_TRACE, wanted).fetchall()
        return {message_id: Trace(Whereabouts(where), body) for message_id, where, body in rows}

    def rewrite(
        self, queue: str, message_ids: Sequence[str], change: Callable[[str, bytes], bytes | None]
    ) -> dict[str, Rewriting]:
        """Gives messages other bodies, or takes them away (see OutputQueue)."""
        checked_queue(queue)
        with self._changing() as db:
            done = {message_id: _rewritten(db, queue, message_id, change) for message_id in message_ids}
        with self._guarded() as db:
            empty_log(db)
        return done

    def depths(self) -> list[Depth]:
        """How full each queue is; a message whose last lease has ended is ready here until the next pull buries it."""
        with self._guarded() as db:
            return [self._depth(db, queue) for queue in QUEUE_NAMES]

    def _depth(self, db: sqlite3.Connection, queue: str) -> Depth:
        now_us = self._clock.now_us()
        waiting, leased, delayed = db.execute(
            f"select count(*), total(not {_DUE} and lease_id is not null), total(not {_DUE} and lease_id is null) "  # noqa: S608 - constant
            "from message where queue = :queue and dead_us is null",
            {"queue": queue, **_due_at(now_us)},
        ).fetchone()
        (dead,) = db.execute(
            "select count(*) from message where queue = ? and dead_us is not null", (queue,)
        ).fetchone()
        oldest = db.execute(
            "select enqueued_us from message where queue = ? and dead_us is null order by id limit 1", (queue,)
        ).fetchone()
        age_s = max(0, now_us - oldest[0]) / 1_000_000 if oldest else None
        return Depth(queue, waiting - int(leased) - int(delayed), int(leased), int(delayed), dead, age_s)

    def _insert(self, db: sqlite3.Connection, message: Message) -> bool:
        return bool(
            db.execute(
                "insert into message (queue, message_id, enqueued_us, visible_us, attempts, headers, body) "
                "select :queue, :message_id, :now, 0, 0, :headers, :body where not exists "
                "(select 1 from tombstone where queue = :queue and message_id = :message_id) on conflict do nothing",
                {
                    "queue": message.queue,
                    "message_id": message.message_id,
                    "now": self._clock.now_us(),
                    "headers": json.dumps(dict(message.headers)),
                    "body": message.body,
                },
            ).rowcount
        )

    def _refuse_when_full(self, db: sqlite3.Connection) -> None:
        (page_bytes,), (pages,), (free_pages,) = (
            db.execute(f"pragma {name}").fetchone() for name in ("page_size", "page_count", "freelist_count")
        )
        if (pages - free_pages) * page_bytes >= self._max_file_bytes:
            bound = f"{self._max_file_bytes} bytes of messages wait"
            raise CrowError(Kind.EXHAUSTED, "queue_full", f"the queue is full: {bound}; is there a consumer?")

    def _bury_ended(self, db: sqlite3.Connection, queue: str, now_us: int) -> None:
        """Sets aside messages whose last lease has ended, so that one that kills its consumers stops doing so."""
        db.execute(
            "update message set dead_us = :now, lease_id = null, error = :error "  # noqa: S608 - constant
            f"where queue = :queue and lease_id is not null and attempts >= :max and {_DUE}",
            {"queue": queue, "max": self._max_deliveries, "error": _LEASE_ENDED, **_due_at(now_us)},
        )

    def _leased(
        self, db: sqlite3.Connection, queue: str, lease_ids: Sequence[str], now_us: int
    ) -> tuple[list[tuple[int, str, int]], tuple[str, ...]]:
        """(row id, message id, attempts) of each lease that is good now, and the ids of those that are not."""
        leased, refused = [], []
        for lease_id in dict.fromkeys(lease_ids):
            row = db.execute(
                "select id, message_id, attempts from message "  # noqa: S608 - constant
                f"where lease_id = :lease and queue = :queue and not {_DUE}",
                {"lease": lease_id, "queue": queue, **_due_at(now_us)},
            ).fetchone()
            if row is None:
                refused.append(lease_id)
            else:
                leased.append(row)
        return leased, tuple(refused)

    def _prune(self, db: sqlite3.Connection, now_us: int, limit: int) -> None:
        """Forgets tombstones past the window, more of them in a step than the step can have made."""
        db.execute(
            "delete from tombstone where (queue, message_id) in "
            "(select queue, message_id from tombstone where acked_us < ? order by acked_us limit ?)",
            (now_us - REMEMBERED_US, limit),
        )

    def _stored(self, queue: str, limit: int, which: str) -> list[StoredMessage]:
        checked_queue(queue)
        _within("limit", limit, 1, MAX_PULL)
        with self._guarded() as db:
            rows = db.execute(
                f"select message_id, attempts, enqueued_us, error, body, headers, dead_us, lease_id, {_DUE} "  # noqa: S608 - constant
                f"from message where queue = :queue and {which} order by id limit :limit",
                {"queue": queue, "limit": limit, **_due_at(self._clock.now_us())},
            ).fetchall()
        return [
            StoredMessage(
                message_id, _state(dead_us, lease_id, due), attempts, enqueued_us, error, body, json.loads(headers)
            )
            for message_id, attempts, enqueued_us, error, body, headers, dead_us, lease_id, due in rows
        ]

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction."""
        with self._guarded() as db, transaction(db):
            yield db

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """The connection for one thread, with SQLite's errors translated."""
        try:
            with self._lock:
                yield self._connection
        except sqlite3.OperationalError as error:
            raise CrowError(Kind.UNAVAILABLE, "queue_unavailable", f"the queue's file fails: {error}") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a statement of ours is wrong, not the file
            raise CrowError(Kind.CORRUPT, "queue_corrupt", f"the queue's file is damaged: {error}") from error


def _rewritten(
    db: sqlite3.Connection, queue: str, message_id: str, change: Callable[[str, bytes], bytes | None]
) -> Rewriting:
    key = (queue, message_id)
    found = db.execute("select id, seen, body from message where queue = ? and message_id = ?", key).fetchone()
    if found is None:
        taken = db.execute("select 1 from tombstone where queue = ? and message_id = ?", key).fetchone()
        return Rewriting.SEEN if taken else Rewriting.ABSENT
    row_id, seen, body = found
    changed = change(message_id, body)
    if changed is None:
        db.execute("delete from message where id = ?", (row_id,))
    else:
        db.execute("update message set body = ? where id = ?", (changed, row_id))
    return Rewriting.SEEN if seen else Rewriting.UNSEEN


def _state(dead_us: int | None, lease_id: str | None, due: int) -> MessageState:
    if dead_us is not None:
        return MessageState.DEAD
    if due:
        return MessageState.READY
    return MessageState.DELAYED if lease_id is None else MessageState.LEASED


def _due_at(now_us: int) -> dict[str, int]:
    return {"now": now_us, "latest": now_us + MAX_LEASE_S * 1_000_000}


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise CrowError(Kind.INVALID, "bad_argument", f"{what} is {value}; it can be {low:g} to {high:g}")
