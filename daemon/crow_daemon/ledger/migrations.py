"""The ledger's schema, step by step. Times are microseconds since the Unix epoch, by the daemon's clock."""

from sqlite_utils import Database, Migrations

migrations = Migrations("crow-daemon-ledger")


@migrations()
def m001_ledger(db: Database) -> None:
    """Minutes, cameras, and what was written last."""
    # By minute first: what changes each second lies together, on a few pages of a disk that may be flash.
    db.execute(
        """create table minute (
            minute_us integer not null,           -- start of the minute, of capture time
            camera_id text not null,
            revision integer not null,            -- when it was written; rises with every writing
            told_revision integer not null,       -- the latest that the receiver has; 0: none
            sent integer not null,                -- frames that the spool has numbered
            gated text not null,                  -- JSON object: samples by GateReason
            dropped text not null,                -- JSON object: samples by Dropped or Missed
            alerts text not null,                 -- JSON array of words
            primary key (minute_us, camera_id)
        ) strict, without rowid"""
    )
    db.execute("create index minute_untold on minute (revision) where told_revision < revision")
    # How far each camera is accounted for: account.Standing.
    db.execute(
        """create table camera (
            camera_id text primary key,
            spooled integer not null,
            interval_us integer not null,
            due_us integer,                       -- null: no sample is expected by the time
            recording_us integer,                 -- account.RecordingStanding; null: it reads none
            accounted_us integer,
            sent_us integer,
            spooled_us integer
        ) strict, without rowid"""
    )
    # One row, once a daemon has written here: from then on a camera that is not in `camera` has nothing booked.
    db.execute("create table written (revision integer not null) strict")
