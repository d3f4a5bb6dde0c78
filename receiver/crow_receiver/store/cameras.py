"""Cameras and how far each one's stream has come."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from crow_receiver.vision.brief import NO_BRIEF, Brief
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey
from crow_shared.zones import Zone, zones_from_text, zones_to_text


@dataclass(frozen=True, slots=True)
class CameraRow:
    """A camera that this receiver knows.

    `sample_interval_ms` is 0 when it is not known, `zones` are as its daemon says. `engines` describe its frames, in
    this order; empty: as the settings say. `brief` is what the operator tells models of it.
    """

    id: int
    key: CameraKey
    name: str
    sample_interval_ms: int
    zones: tuple[Zone, ...] = ()
    engines: tuple[str, ...] = ()
    brief: Brief = NO_BRIEF

    @classmethod
    def of(cls, row: Sequence[Any]) -> "CameraRow":
        """The camera of a row of `COLUMNS`. Raises CrowError(CORRUPT) for zones that are none."""
        row_id, organization_id, site_id, camera_id, name, interval_ms, zones, engines, brief = row
        key = CameraKey(organization_id, site_id, camera_id)
        return cls(row_id, key, name, interval_ms, _zones(zones), tuple(engines.split()), _brief(brief))


@lru_cache(maxsize=4096)
def _zones(text: str) -> tuple[Zone, ...]:
    """Read once: every frame that waits brings its camera along."""
    return zones_from_text(text)


@lru_cache(maxsize=4096)
def _brief(text: str) -> Brief:
    return Brief.from_text(text)


COLUMNS = "c.id, c.organization_id, c.site_id, c.camera_id, c.name, c.sample_interval_ms, c.zones, c.engines, c.brief"
RECEIVER_RESTORED = "receiver_restored"  # why numbers are missing that were acknowledged here, and are here no more


def announce(
    db: sqlite3.Connection, key: CameraKey, name: str, sample_interval_ms: int, zones: tuple[Zone, ...] = ()
) -> CameraRow:
    """Makes the camera known, or updates its name, interval and zones."""
    row_id, engines, brief = db.execute(
        """insert into camera (organization_id, site_id, camera_id, name, sample_interval_ms, zones)
           values (?, ?, ?, ?, ?, ?)
           on conflict do update set name = excluded.name, sample_interval_ms = excluded.sample_interval_ms,
               zones = excluded.zones
           returning id, engines, brief""",
        (key.organization_id, key.site_id, key.camera_id, name, sample_interval_ms, zones_to_text(zones)),
    ).fetchone()
    return CameraRow(row_id, key, name, sample_interval_ms, zones, tuple(engines.split()), _brief(brief))


def set_engines(db: sqlite3.Connection, key: CameraKey, engines: Sequence[str]) -> bool:
    """Says which engines describe this camera's frames; empty: as the settings say. False without such a camera."""
    return _set(db, key, "engines", " ".join(engines))


def set_brief(db: sqlite3.Connection, key: CameraKey, brief: Brief) -> bool:
    """Says what models are told of this camera. False without such a camera."""
    return _set(db, key, "brief", brief.to_text())


def _set(db: sqlite3.Connection, key: CameraKey, column: str, value: str) -> bool:
    changed = db.execute(
        f"update camera set {column} = ? where organization_id = ? and site_id = ? and camera_id = ?",  # noqa: S608 — ours
        (value, key.organization_id, key.site_id, key.camera_id),
    )
    return bool(changed.rowcount)


def find(db: sqlite3.Connection, key: CameraKey) -> CameraRow | None:
    """The camera of this key, or None."""
    rows = _rows(db, "where organization_id = ? and site_id = ? and camera_id = ?", key.organization_id, key.site_id,
                 key.camera_id)  # fmt: skip
    return rows[0] if rows else None


def by_id(db: sqlite3.Connection, row_id: int) -> CameraRow:
    """The camera of a row that points at it."""
    return _rows(db, "where id = ?", row_id)[0]


def every(db: sqlite3.Connection) -> list[CameraRow]:
    """All cameras, by their keys."""
    return _rows(db, "order by organization_id, site_id, camera_id")


def _rows(db: sqlite3.Connection, where: str, *values: str | int) -> list[CameraRow]:
    rows = db.execute(f"select {COLUMNS} from camera as c {where}", values)  # noqa: S608 — constants
    return [CameraRow.of(row) for row in rows]


def durable_seq(db: sqlite3.Connection, camera: int, epoch: str) -> int:
    """How far the stream of this spool epoch has come; 0 for a new one."""
    row = db.execute("select durable_seq from position where camera = ? and epoch = ?", (camera, epoch)).fetchone()
    return 0 if row is None else int(row[0])


def advance(db: sqlite3.Connection, camera: int, epoch: str, from_seq: int, to_seq: int, now_us: int) -> None:
    """Everything up to `to_seq` is accounted for by the caller's transaction, which took `from_seq` to `to_seq`.

    Raises CrowError(CONFLICT) when the numbers before `from_seq` are not: their transaction failed, and this one must
    not step over them.
    """
    durable = durable_seq(db, camera, epoch)
    if from_seq > durable + 1:
        raise CrowError(Kind.CONFLICT, "out_of_order", f"frame {from_seq} cannot follow {durable}: some between failed")
    db.execute(
        """insert into position (camera, epoch, durable_seq, used_us) values (?, ?, ?, ?)
           on conflict do update set durable_seq = excluded.durable_seq, used_us = excluded.used_us""",
        (camera, epoch, max(durable, to_seq), now_us),
    )


def pass_over(
    db: sqlite3.Connection, camera: int, epoch: str, from_seq: int, to_seq: int, reason: str, detail: str, now_us: int
) -> None:
    """Records numbers that have no frame, and why, and advances the stream past them.

    Those that are accounted for already keep the end that they have. Raises CrowError as `advance` does.
    """
    first = max(from_seq, durable_seq(db, camera, epoch) + 1)
    advance(db, camera, epoch, from_seq, to_seq, now_us)
    if first <= to_seq:
        db.execute(
            "insert into missing (camera, epoch, from_seq, to_seq, reason, detail, recorded_us) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (camera, epoch, first, to_seq, reason, detail, now_us),
        )


def missing_after(
    db: sqlite3.Connection, camera: int, epoch: str, after_seq: int, reasons: Sequence[str], limit: int
) -> list[tuple[int, str, str]]:
    """(number, reason, detail) of single numbers above `after_seq` that are missing for one of `reasons`."""
    marks = ", ".join("?" * len(reasons))
    return db.execute(
        f"""select from_seq, reason, detail from missing
            where camera = ? and epoch = ? and from_seq > ? and from_seq = to_seq and reason in ({marks})
            order by from_seq limit ?""",  # noqa: S608 — question marks
        (camera, epoch, after_seq, *reasons, limit),
    ).fetchall()
