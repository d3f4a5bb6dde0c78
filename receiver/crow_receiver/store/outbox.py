"""The outbox: messages committed together with what they tell, until the queue has them."""

import json
import sqlite3
from collections.abc import Callable, Sequence

from crow_receiver.messages.interaction import batch_message_id
from crow_receiver.queue.dispatch import MAX_BACKOFF_S, Backlog, OutboxRow
from crow_receiver.queue.port import Message
from crow_receiver.store.store import Store, Transaction


def put(db: sqlite3.Connection, session_id: str, message: Message, now_us: int) -> None:
    """Adds a message; one whose id is there already is the same message."""
    added = db.execute(
        "insert or ignore into outbox (queue, message_id, session_id, created_us) values (?, ?, ?, ?)",
        (message.queue, message.message_id, session_id, now_us),
    )
    if added.rowcount:
        content = (added.lastrowid, json.dumps(dict(message.headers)), message.body)
        db.execute("insert into outbox_content (id, headers, body) values (?, ?, ?)", content)


def messages_of_batch(db: sqlite3.Connection, session_id: str, batch_index: int) -> list[str]:
    """The ids of the messages that told of a batch, in all its revisions."""
    first = batch_message_id(session_id, batch_index)
    rows = db.execute(
        "select message_id from outbox where message_id = ?1 or message_id > ?1 || ':' and message_id < ?1 || ';'",
        (first,),
    )
    return [message_id for (message_id,) in rows]


def rewrite(db: sqlite3.Connection, message_id: str, change: Callable[[bytes], bytes | None]) -> None:
    """Gives a message that waits the body that `change` makes of its own, None: takes it away."""
    row = db.execute(
        "select id, body from outbox join outbox_content using (id) where message_id = ?", (message_id,)
    ).fetchone()
    if row is None:
        return
    row_id, body = row
    changed = change(body)
    if changed is not None:
        db.execute("update outbox_content set body = ? where id = ?", (changed, row_id))
        return
    for table in ("outbox_content", "outbox"):
        db.execute(f"delete from {table} where id = ?", (row_id,))  # noqa: S608 — a constant


# A time further ahead than the longest wait was written before the clock was set back, and counts as due.
_HELD = "(not_before_us > :now and not_before_us <= :latest)"

_DUE = f"""
    select o.id, queue, message_id, session_id, body, headers, attempts
    from outbox as o indexed by outbox_waiting join outbox_content as content on content.id = o.id
    where dispatched_us is null and not {_HELD} and not exists (
        select 1 from outbox indexed by outbox_waiting_of_session
        where session_id = o.session_id and id < o.id and dispatched_us is null and {_HELD})
    order by o.id limit :limit"""  # noqa: S608 — constants


class StoredOutbox:
    """The outbox as the dispatcher sees it. A dispatched row keeps its place as evidence, without its content."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def due(self, now_us: int, limit: int) -> list[OutboxRow]:
        """Rows to publish, by rising id, without those of a session that has an earlier row postponed beyond now."""
        at = {"now": now_us, "latest": now_us + int(MAX_BACKOFF_S * 1_000_000), "limit": limit}
        rows = await self._store.read(lambda db: db.execute(_DUE, at).fetchall())
        return [
            OutboxRow(row_id, queue, message_id, session_id, bytes(body), json.loads(headers), attempts)
            for row_id, queue, message_id, session_id, body, headers, attempts in rows
        ]

    async def dispatched(self, ids: Sequence[int], now_us: int) -> None:
        """The queue has these rows on disk."""

        def work(tx: Transaction) -> None:
            tx.db.executemany("delete from outbox_content where id = ?", [(row_id,) for row_id in ids])
            tx.db.executemany("update outbox set dispatched_us = ? where id = ?", [(now_us, row_id) for row_id in ids])

        await self._store.write(work)

    async def failed(self, row_id: int, error: str, not_before_us: int) -> None:
        """Postpones the row and counts the try."""

        def work(tx: Transaction) -> None:
            tx.db.execute(
                "update outbox set attempts = attempts + 1, error = ?, not_before_us = ? where id = ?",
                (error, not_before_us, row_id),
            )

        await self._store.write(work)

    async def backlog(self) -> Backlog:
        """What waits, postponed rows included."""
        return await self._store.read(waiting)


def waiting(db: sqlite3.Connection) -> Backlog:
    """What no queue has yet, postponed rows included."""
    row = db.execute(
        "select count(*), min(created_us) from outbox indexed by outbox_waiting where dispatched_us is null"
    ).fetchone()
    return Backlog(*row)
