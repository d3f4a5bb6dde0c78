"""The receiver database's schema, step by step. Times are microseconds since the Unix epoch."""

from sqlite_utils import Database, Migrations

migrations = Migrations("crow-receiver")


@migrations()
def m001_line(db: Database) -> None:
    """Cameras, stream positions, sessions, frames, analyses, batches, pattern windows, outbox."""
    for statement in _M001:
        db.execute(statement)


_M001 = (
    """create table camera (
        id integer primary key,
        organization_id text not null,
        site_id text not null,
        camera_id text not null,
        name text not null,
        sample_interval_ms integer not null,   -- 0: not known
        zones text not null default '[]',      -- JSON of crow_shared.zones; as its daemon said last
        pictures_h real,                       -- how long its pictures are kept; null: as the settings say
        engines text not null default '',      -- names in their order, blanks between; '': as the settings say
        brief text not null default '',        -- JSON of vision.brief.Brief; '': an empty one
        unique (organization_id, site_id, camera_id)
    ) strict""",
    # How each engine is, as the receiver that runs, or ran last, saw it.
    """create table engine (
        place integer primary key,             -- in the order of the settings, from 0
        name text not null,
        trouble text,                          -- null: it serves
        since_us integer not null,             -- for how long that has been so
        passed_over integer not null           -- 1: other engines stand in for it
    ) strict""",
    # How far a daemon's spool has come: everything up to durable_seq is stored, refused or a reported gap.
    """create table position (
        camera integer not null references camera (id),
        epoch text not null,                   -- Hello.spool_epoch
        durable_seq integer not null,
        used_us integer not null,              -- when it moved last; kept for a year after that
        primary key (camera, epoch)
    ) strict, without rowid""",
    # Numbers without a frame, and why: the spool let them go, or this receiver refused them.
    """create table missing (
        camera integer not null references camera (id),
        epoch text not null,
        from_seq integer not null,             -- both inclusive
        to_seq integer not null,
        reason text not null,                  -- GapReason or RejectCode in lower case
        detail text not null,
        recorded_us integer not null,
        primary key (camera, epoch, from_seq)
    ) strict, without rowid""",
    "create index missing_age on missing (recorded_us)",
    # Numbers whose records retention let go: frames and missing ones alike, adjoining ranges as one row.
    """create table expired (
        camera integer not null references camera (id),
        epoch text not null,
        from_seq integer not null,             -- both inclusive
        to_seq integer not null,
        primary key (camera, epoch, from_seq)
    ) strict, without rowid""",
    # What became of the samples that were due, as the camera's daemon says. It holds counts alone.
    """create table ledger (
        camera integer not null references camera (id),
        minute_us integer not null,            -- start of the minute, of capture time
        revision integer not null,             -- the daemon's; a higher one replaces the row
        expected integer not null,             -- sent + all gated + all dropped
        sent integer not null,
        gated text not null,                   -- JSON object: samples by reason
        dropped text not null,                 -- JSON object: samples by reason
        alerts text not null,                  -- JSON array of words
        received_us integer not null,          -- when this revision came
        primary key (camera, minute_us)
    ) strict, without rowid""",
    """create table session (
        id text primary key,
        camera integer not null references camera (id),
        hour_us integer not null,              -- the UTC hour that the session lies in
        first_capture_us integer not null,
        last_capture_us integer not null,
        last_arrival_us integer not null,      -- the receiver's clock
        state text not null default 'open' check (state in ('open', 'closed', 'expiring')),
        closings integer not null default 0,   -- raised by each closing; a late frame opens a closed session again
        frames integer not null default 0,     -- also the next frame's index
        batches integer not null default 0,    -- also the next batch's index
        opened_us integer not null,
        closed_us integer
    ) strict, without rowid""",
    "create index session_of_hour on session (camera, hour_us)",
    "create index session_open on session (state) where state = 'open'",
    "create index session_closed on session (camera, closed_us) where state <> 'open'",
    """create table frame (
        id integer primary key,
        camera integer not null references camera (id),
        epoch text not null,
        seq integer not null,
        session_id text not null references session (id),
        frame_index integer not null,          -- from 0 within the session, in order of arrival
        capture_us integer not null,
        time_source text not null,
        received_us integer not null,
        late integer not null default 0,       -- 1: came long after its capture; those that did not go first
        encoding text not null,
        width integer not null,                -- pixels, as the picture's own header says
        height integer not null,
        clock_skew_us integer,                 -- the camera's clock minus the daemon's; null where it tells no time
        masked integer not null,               -- 1: parts were painted over before it left the daemon
        blurred integer not null,              -- 1: people were made unrecognisable there
        segment integer,                       -- crow_shared.segments.Pointer; null once the picture was deleted
        "offset" integer not null,
        length integer not null,               -- bytes
        crc32 integer not null,
        state text not null default 'pending' check (state in ('pending', 'analysed', 'failed', 'erased')),
        attempts integer not null default 0,   -- failed tries at an analysis
        not_before_us integer not null default 0,
        failure text,                          -- the last try's error
        unique (camera, epoch, seq)
    ) strict""",
    "create index frame_pending on frame (camera, late, id) where state = 'pending'",
    "create index frame_of_session on frame (session_id, capture_us)",
    "create index frame_pending_of_session on frame (session_id, capture_us) where state = 'pending'",
    "create index frame_failed on frame (camera) where state = 'failed'",
    "create index frame_segment on frame (segment) where segment is not null",
    "create index frame_picture on frame (camera, received_us) where segment is not null and state <> 'pending'",
    """create table analysis (
        frame integer primary key references frame (id),
        session_id text not null,              -- the frame's; no reference, whose check would read all analyses
        body text not null,                    -- JSON of vision.schema.Analysis
        analysed_us integer not null,
        batch_index integer,                   -- null until it went into a batch
        told_run integer                       -- the reanalysis whose answer was told last; null: the body above
    ) strict""",
    "create index analysis_unbatched on analysis (session_id, frame) where batch_index is null",
    # A run of `crow-receiver reanalyse`: kept frames described again, beside what was said of them before.
    """create table reanalysis (
        id integer primary key,
        asked text not null,                   -- JSON: which frames and by what; the same command goes on with its run
        begun_us integer not null
    ) strict""",
    "create index reanalysis_asked on reanalysis (asked, id)",
    """create table reanalysis_session (
        run integer not null references reanalysis (id),
        session_id text not null references session (id),
        revision integer,                      -- of its batches told with the run's answers; null: not told
        primary key (run, session_id)
    ) strict, without rowid""",
    "create index reanalysis_of_session on reanalysis_session (session_id)",
    """create table reanalysed (
        run integer not null references reanalysis (id),
        frame integer not null references frame (id),
        session_id text not null,              -- the frame's
        body text,                             -- JSON of vision.schema.Analysis; null: it failed
        failure text,                          -- why
        primary key (run, frame)
    ) strict""",
    "create index reanalysed_frame on reanalysed (frame)",
    "create index reanalysed_session on reanalysed (run, session_id)",
    """create table pattern_window (
        session_id text not null references session (id),
        minute_us integer not null,            -- the minute of capture time
        changed integer not null,              -- 1: holds analyses that no message has told of yet
        changed_us integer not null default 0, -- when it changed last
        revision integer not null default -1,  -- of the latest message; -1: none yet
        primary key (session_id, minute_us)
    ) strict, without rowid""",
    # A row whose queue has its message stays as evidence, without its content, until its session's records go.
    """create table outbox (
        id integer primary key autoincrement,
        queue text not null,
        message_id text not null unique,
        session_id text not null,
        created_us integer not null,
        attempts integer not null default 0,
        not_before_us integer not null default 0,
        error text,                            -- the last try's
        dispatched_us integer                  -- null while it waits
    ) strict""",
    # Apart, so that its pages come back when it goes.
    """create table outbox_content (
        id integer primary key references outbox (id),
        headers text not null,                 -- JSON object of strings
        body blob not null
    ) strict""",
    "create index outbox_of_session on outbox (session_id)",
    # These cover the dispatcher's searches, however many dispatched rows are kept.
    "create index outbox_waiting on outbox (id, not_before_us, session_id, created_us) where dispatched_us is null",
    "create index outbox_waiting_of_session on outbox (session_id, id, not_before_us) where dispatched_us is null",
    # What an operator had erased: frames of these times stay away for as long as the row is kept.
    """create table erasure (
        id text primary key,
        camera integer not null references camera (id),
        from_us integer not null,              -- of capture time
        to_us integer not null,                -- excluded
        reason text not null,
        requested_us integer not null,
        frames integer not null default 0,     -- what is gone so far
        pictures integer not null default 0,
        analyses integer not null default 0,
        done_us integer,                       -- null while it is under way
        receipt text                           -- JSON, once done
    ) strict, without rowid""",
    "create index erasure_of_camera on erasure (camera, from_us)",
    # Messages that told of erased frames.
    """create table erasure_message (
        erasure text not null references erasure (id),
        message_id text not null,
        session_id text not null,
        dispatched integer not null,           -- 1: the queue had it already
        outcome text,                          -- withdrawn, rebuilt or taken; null: the queue may hold the old text
        primary key (erasure, message_id)
    ) strict, without rowid""",
    "create index erasure_message_open on erasure_message (session_id) where outcome is null",
)
