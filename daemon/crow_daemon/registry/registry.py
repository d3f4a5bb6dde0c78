"""The durable list of cameras.

Invariants
1. What is stored has passed `Camera`'s checks; a row that no longer does is reported, never half used.
2. A password lies in `camera_secret` alone and leaves this module as a `Secret` only. Without a user name there is
   none.
3. Every change raises `version`, in the same transaction. One that concerns a running capture raises the camera's
   `revision` too.
4. A revision is never used twice for one id, not even when a camera is removed and added again: it is taken from
   `version`.

Several processes may use the file at once: the CLI changes it under a running daemon.
"""

import difflib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
    SourceKind,
    Transport,
)
from crow_daemon.registry.migrations import migrations
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.database import open_database, transaction, translated_errors
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import checked_polygon, zones_from_text, zones_to_text

_COLUMNS = (
    "id, name, kind, url, username, transport, sub_url, path, recording_start_us, sample_interval_ms, gate, "
    "heartbeat_s, jpeg_long_side, jpeg_quality, mode, reader, motion_ttl_s, pre_roll, masks, blur, zones, grid_row, "
    "grid_column, enabled, finished, revision"
)
_VALUES = ", ".join(f":{column}" for column in _COLUMNS.split(", "))


class Registry:
    """The cameras of one daemon, in one SQLite file that only its owner can read. One thread at a time.

    Everything raises CrowError(UNAVAILABLE) when the disk refuses; a change is not made then.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, made if missing. Raises CrowError(UNAVAILABLE, CORRUPT) as `open_database` does."""
        self._db = open_database(path, migrations)

    def version(self) -> int:
        """A number that rises with every change, whichever process makes it."""
        return int(self._select("select version from registry")[0][0])

    def cameras(self) -> list[Camera]:
        """All cameras, by id."""
        rows = self._select(f"select {_COLUMNS} from camera order by id")  # noqa: S608 — a constant
        return [_camera(row) for row in rows]

    def get(self, camera_id: str) -> Camera:
        """One camera. Raises CrowError(NOT_FOUND), with the nearest id that exists."""
        rows = self._select(f"select {_COLUMNS} from camera where id = ?", camera_id)  # noqa: S608
        if not rows:
            raise self._unknown(camera_id)
        return _camera(rows[0])

    def credentials(self, camera_id: str) -> Credentials | None:
        """What to log in with; None when the camera has no user name."""
        rows = self._select(
            "select username, coalesce(password, '') from camera left join camera_secret on camera_id = id "
            "where id = ? and username is not null",
            camera_id,
        )
        return Credentials(rows[0][0], Secret(rows[0][1])) if rows else None

    def add(self, camera: Camera, password: Secret | None = None) -> None:
        """Adds a camera. Raises CrowError(CONFLICT) when the id is taken."""
        with self._change() as (db, version):
            try:
                db.execute(
                    f"insert into camera ({_COLUMNS}) values ({_VALUES})",  # noqa: S608 — constants
                    _row(replace(camera, revision=version)),
                )
            except sqlite3.IntegrityError:
                raise CrowError(
                    Kind.CONFLICT,
                    "camera_exists",
                    f"there is a camera {camera.id!r} already; change it with: crow-daemon camera edit {camera.id}",
                ) from None
            _set_password(db, camera, password)

    def update(self, camera: Camera, new_password: Secret | None = None) -> None:
        """Stores a changed camera; without `new_password` the old one stays, unless the user name is gone.

        A recording that was read to its end stays finished, whatever was read in its place meanwhile.
        Raises CrowError(NOT_FOUND).
        """
        with self._change() as (db, version):
            self.get(camera.id)
            after = replace(camera, revision=version, finished=self.was_read(camera))
            columns = ", ".join(f"{column} = :{column}" for column in _COLUMNS.split(", "))
            db.execute(f"update camera set {columns} where id = :id", _row(after))  # noqa: S608 — a constant
            _set_password(db, after, new_password)

    def remove(self, camera_id: str) -> None:
        """Forgets a camera and its password. Raises CrowError(NOT_FOUND)."""
        with self._change() as (db, _):
            if db.execute("delete from camera where id = ?", (camera_id,)).rowcount == 0:
                raise self._unknown(camera_id)

    def mark_finished(self, camera_id: str, revision: int) -> None:
        """Remembers that a recording was read to its end, unless it was changed since."""
        with self._change() as (db, _):
            of_the_recording = (camera_id, revision, SourceKind.FILE)
            db.execute("update camera set finished = 1 where id = ? and revision = ? and kind = ?", of_the_recording)
            db.execute(
                "insert or ignore into read_recording select id, path, recording_start_us from camera "
                "where id = ? and revision = ? and kind = ?",
                of_the_recording,
            )

    def was_read(self, camera: Camera) -> bool:
        """Whether the camera's source is a recording that was read to its end for it."""
        if not isinstance(camera.source, Recording):
            return False
        query = "select 1 from read_recording where camera_id = ? and path = ? and start_us = ?"
        return bool(self._select(query, camera.id, str(camera.source.path), camera.source.start_us))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _select(self, query: str, *parameters: str | int) -> list[tuple[Any, ...]]:
        with translated_errors("the camera registry"):
            return self._db.execute(query, parameters).fetchall()

    @contextmanager
    def _change(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        with translated_errors("the camera registry"), transaction(self._db) as db:
            (version,) = db.execute("update registry set version = version + 1 returning version").fetchone()
            yield db, int(version)

    def _unknown(self, camera_id: str) -> CrowError:
        ids = [str(row[0]) for row in self._select("select id from camera")]
        near = difflib.get_close_matches(camera_id, ids, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {camera_id[:80]!r}{hint}")


def _set_password(db: sqlite3.Connection, camera: Camera, password: Secret | None) -> None:
    if isinstance(camera.source, Recording) or camera.source.username is None:
        db.execute("delete from camera_secret where camera_id = ?", (camera.id,))
    elif password is not None:
        db.execute(
            "insert or replace into camera_secret (camera_id, password) values (?, ?)", (camera.id, password.reveal())
        )


def _row(camera: Camera) -> dict[str, Any]:
    row = {column: getattr(camera, column, None) for column in _COLUMNS.split(", ")}
    row |= {"masks": json.dumps(camera.masks), "zones": zones_to_text(camera.zones)}
    match camera.source:
        case RtspAddress(url, username, transport, sub_url):
            address = {"kind": SourceKind.RTSP, "url": url.text, "username": username, "transport": transport}
            return row | address | {"sub_url": sub_url.text if sub_url else None}
        case Recording(path, start_us):
            return row | {"kind": SourceKind.FILE, "path": str(path), "recording_start_us": start_us}


def _camera(row: tuple[Any, ...]) -> Camera:
    try:
        return _checked_camera(row)
    except (ValueError, TypeError, KeyError, CrowError) as error:
        raise CrowError(
            Kind.CORRUPT,
            "camera_damaged",
            f"the registry's entry of camera {row[0]!r} is not usable ({error}); remove it and add it again",
        ) from None


def _checked_camera(row: tuple[Any, ...]) -> Camera:
    of = dict(zip(_COLUMNS.split(", "), row, strict=True))
    source: RtspAddress | Recording
    if of["kind"] == SourceKind.RTSP:
        sub_url = CameraUrl.parse(of["sub_url"]) if of["sub_url"] is not None else None
        source = RtspAddress(CameraUrl.parse(of["url"]), of["username"], Transport(of["transport"]), sub_url)
    else:
        source = Recording(Path(of["path"]), of["recording_start_us"])
    return Camera(
        id=of["id"],
        name=of["name"],
        source=source,
        sample_interval_ms=of["sample_interval_ms"],
        gate=GateMode(of["gate"]),
        heartbeat_s=of["heartbeat_s"],
        jpeg_long_side=of["jpeg_long_side"],
        jpeg_quality=of["jpeg_quality"],
        mode=CaptureMode(of["mode"]),
        reader=ReaderChoice(of["reader"]),
        motion_ttl_s=of["motion_ttl_s"],
        pre_roll=bool(of["pre_roll"]),
        masks=tuple(checked_polygon(mask) for mask in json.loads(of["masks"])),
        blur=Blur(of["blur"]),
        zones=zones_from_text(of["zones"]),
        grid_row=of["grid_row"],
        grid_column=of["grid_column"],
        enabled=bool(of["enabled"]),
        finished=bool(of["finished"]),
        revision=of["revision"],
    )
