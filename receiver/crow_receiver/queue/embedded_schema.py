"""The tables of the embedded queue."""

from sqlite_utils import Database, Migrations

migrations = Migrations("crow_receiver.queue")


@migrations()
def messages_and_tombstones(db: Database) -> None:
    """What is waiting or dead, and the ids of what was acknowledged."""
    db.execute(
        """
        create table message (
            id integer primary key,       -- order of arrival
            queue text not null,
            message_id text not null,     -- deterministic, made by crow_receiver.messages
            enqueued_us integer not null, -- since the Unix epoch, as every time here
            visible_us integer not null,  -- not handed out before: 0 when new, the lease's or the delay's end later
            attempts integer not null,    -- deliveries begun, up to the queue's limit
            seen integer not null default 0, -- 1: was handed out, before a replay too
            lease_id text unique,         -- of the last delivery; null when new, given back or dead
            dead_us integer,              -- when it ran out of deliveries; null while it waits
            error text,                   -- why the last delivery failed, up to 500 characters
            headers text not null,        -- JSON object of strings
            body blob not null,           -- up to 128,000 bytes
            unique (queue, message_id)
        )
        """
    )
    # Covers pull's search and the counting of depths, so that neither reads past a body.
    db.execute("create index message_waiting on message (queue, id, visible_us, lease_id) where dead_us is null")
    db.execute("create index message_leased on message (queue, attempts) where lease_id is not null")
    db.execute("create index message_dead on message (queue, id) where dead_us is not null")
    db.execute(
        """
        create table tombstone (
            queue text not null,
            message_id text not null,
            acked_us integer not null,
            primary key (queue, message_id)
        ) without rowid
        """
    )
    db.execute("create index tombstone_age on tombstone (acked_us)")
