"""The registry's schema, step by step."""

from sqlite_utils import Database, Migrations

migrations = Migrations("crow-daemon-registry")


@migrations()
def m001_cameras(db: Database) -> None:
    """Cameras, their passwords in a table of their own, and a counter of changes."""
    db.execute(
        """create table camera (
            id text primary key,                  -- crow_shared.identity
            name text not null,                   -- free text, 1 to 120 printable characters
            kind text not null,                   -- camera.SourceKind
            url text,                             -- rtsp: without credentials
            username text,                        -- rtsp: null when the camera asks for none
            transport text,                       -- rtsp: camera.Transport
            sub_url text,                         -- rtsp: of the smaller stream, null without one
            path text,                            -- file: absolute
            recording_start_us integer,           -- file: microseconds since the Unix epoch
            sample_interval_ms integer not null,  -- 33 (30 a second) to 3600000
            gate text not null,                   -- camera.GateMode
            heartbeat_s integer not null,
            jpeg_long_side integer not null,      -- pixels
            jpeg_quality integer not null,        -- 30 to 100
            mode text not null,                   -- camera.CaptureMode
            reader text not null,                 -- camera.ReaderChoice
            motion_ttl_s real not null,
            pre_roll integer not null,            -- 0 or 1
            masks text not null,                  -- JSON: polygons, each a list of [x, y]
            blur text not null,                   -- camera.Blur
            zones text not null,                  -- JSON: objects of name, kind, points
            grid_row integer,
            grid_column integer,
            enabled integer not null,             -- 0 or 1
            finished integer not null,            -- file: 1 when it was read to its end
            revision integer not null,            -- rises when a running capture has to be started anew
            check ((kind = 'rtsp') = (url is not null) and (kind = 'rtsp') = (transport is not null)),
            check ((kind = 'file') = (path is not null) and (kind = 'file') = (recording_start_us is not null))
        ) strict, without rowid"""
    )
    db.execute(
        """create table camera_secret (
            camera_id text primary key references camera (id) on delete cascade,
            password text not null
        ) strict, without rowid"""
    )
    db.execute(
        """create table read_recording (  -- to its end; never again for this camera
            camera_id text not null references camera (id) on delete cascade,
            path text not null,
            start_us integer not null,
            primary key (camera_id, path, start_us)
        ) strict, without rowid"""
    )
    db.execute("create table registry (version integer not null) strict")  # rises with every change
    db.execute("insert into registry (version) values (1)")
