"""The outbox: messages committed together with what they tell, until the queue has them."""

import json
import sqlite3
from collections.abc import Sequence

from crow_receiver.queue.dispatch import Backlog, OutboxRow
from crow_receiver.queue.port import Message
from crow_receiver.store.store import Store, Transaction


def put(db: sqlite3.Connection, session_id: str, message: Message, now_us: int) -> None:
    """Adds a message; one whose id is there already is the same message."""
    db.execute(
        "insert or ignore into outbox (queue, message_id, session_id, headers, body, created_us) "
        "values (?, ?, ?, ?, ?, ?)",
        (message.queue, message.message_id, session_id, json.dumps(dict(message.headers)), message.body, now_us),
    )


class StoredOutbox:
    """The outbox as the dispatcher sees it. A dispatched row is deleted: the queue has it from then on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def due(self, now_us: int, limit: int) -> list[OutboxRow]:
        """Rows to publish, by rising id, without those of a session that has an earlier row postponed beyond now."""
        rows = await self._store.read(
            lambda db: db.execute(
                """select id, queue, message_id, session_id, body, headers, attempts from outbox as o
                   where not_before_us <= ?1 and not exists (
                       select 1 from outbox where session_id = o.session_id and id < o.id and not_before_us > ?1)
                   order by id limit ?2""",
                (now_us, limit),
            ).fetchall()
        )
        return [
            OutboxRow(row_id, queue, message_id, session_id, bytes(body), json.loads(headers), attempts)
            for row_id, queue, message_id, session_id, body, headers, attempts in rows
        ]

    async def dispatched(self, ids: Sequence[int]) -> None:
        """The queue has these rows on disk."""

        def work(tx: Transaction) -> None:
            tx.db.executemany("delete from outbox where id = ?", [(row_id,) for row_id in ids])

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
        row = await self._store.read(lambda db: db.execute("select count(*), min(created_us) from outbox").fetchone())
        return Backlog(*row)
