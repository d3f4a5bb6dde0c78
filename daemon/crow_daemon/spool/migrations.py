"""The spool index's schema, step by step."""

import uuid

from sqlite_utils import Database, Migrations

migrations = Migrations("crow-daemon-spool")


@migrations()
def m001_index(db: Database) -> None:
    """The index of spooled frames, the last number given to each camera, and what was let go."""
    db.execute(
        """create table spool (
            epoch text not null                   -- random, made with the spool; see Hello.spool_epoch in ingest.proto
        ) strict"""
    )
    db.execute("insert into spool (epoch) values (?)", [uuid.uuid4().hex])
    db.execute(
        """create table camera (
            camera_id text primary key,
            last_seq integer not null default 0,  -- the last number given out
            acked_seq integer not null default 0  -- durable at the receiver up to here
        ) strict, without rowid"""
    )
    db.execute(
        """create table frame (
            position integer primary key autoincrement,  -- order of spooling over all cameras
            camera_id text not null,
            seq integer not null,
            capture_us integer not null,          -- microseconds since the Unix epoch
            time_source text not null,
            encoding text not null,
            width integer not null,               -- pixels
            height integer not null,              -- pixels
            segment integer not null,             -- where the picture lies: crow_shared.segments.Pointer
            "offset" integer not null,
            length integer not null,              -- bytes
            crc32 integer not null,
            unique (camera_id, seq)
        ) strict"""
    )
    db.execute("create index frame_segment on frame (segment)")
    db.execute(
        """create table hole (                    -- numbers that will not be sent, until the receiver passed them
            camera_id text not null,
            from_seq integer not null,            -- both inclusive
            to_seq integer not null,
            reason text not null,                 -- spool.HoleReason
            detail text not null,                 -- in words
            primary key (camera_id, from_seq)
        ) strict, without rowid"""
    )
    db.execute(
        """create table lost (                    -- how many frames were given up since the spool was made
            camera_id text not null,
            reason text not null,                 -- spool.HoleReason
            frames integer not null,
            last_detail text not null,            -- the latest one's reason in words
            primary key (camera_id, reason)
        ) strict, without rowid"""
    )
