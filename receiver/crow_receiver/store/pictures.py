"""Pictures go when their time is over; their frames stay.

A picture that waits for analysis is never touched. Its bytes are gone before its row says so: they are made zeros, or,
where nothing else lies in their segment any more, the segment is unlinked right after the commit.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from crow_receiver.store.store import Transaction
from crow_shared.identity import CameraKey
from crow_shared.segments import Pointer

SLICE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class PictureKeep:
    """How long a camera's pictures are kept; `own` when it was said for this camera."""

    camera: CameraKey
    row_id: int
    hours: float
    own: bool


def picture_keeps(db: sqlite3.Connection, default_h: float) -> list[PictureKeep]:
    """How long the pictures of each camera are kept."""
    rows = db.execute("select id, organization_id, site_id, camera_id, pictures_h from camera order by 2, 3, 4")
    return [
        PictureKeep(CameraKey(*key), row_id, default_h if hours is None else hours, hours is not None)
        for row_id, *key, hours in rows
    ]


def set_picture_keep(db: sqlite3.Connection, camera: CameraKey, hours: float | None) -> bool:
    """Says how long this camera's pictures are kept, None: as the settings say. False when there is no such camera."""
    changed = db.execute(
        "update camera set pictures_h = ? where organization_id = ? and site_id = ? and camera_id = ?",
        (hours, camera.organization_id, camera.site_id, camera.camera_id),
    )
    return bool(changed.rowcount)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many pictures went; `emptied` when segments are left that no row points at: unlink them after the commit."""

    pictures: int
    emptied: bool


_OLDEST = """
    select min(received_us) from (
        select (select min(received_us) from frame indexed by frame_picture
            where camera = value and segment is not null and state <> 'pending') as received_us
        from json_each(?))"""

_DUE = """
    select id, segment, "offset", length, crc32 from frame indexed by frame_picture
    where camera in (select value from json_each(?)) and segment is not null and state <> 'pending' and received_us < ?
    order by received_us limit ?"""


def forget_pictures(tx: Transaction, cameras: Sequence[int], received_before_us: int, most: int) -> Forgotten:
    """Lets up to `most` of these cameras' pictures go that were received before then and do not wait for analysis.

    The oldest of all go first, a slice of time in a call: so whole segments go, which costs one unlinking each. Camera
    by camera each picture would have to be punched out of its segment and synced. None goes once no more are due.
    """
    chosen = json.dumps(cameras)
    (oldest_us,) = tx.db.execute(_OLDEST, (chosen,)).fetchone()
    if oldest_us is None:
        return Forgotten(0, emptied=False)
    before_us = min(received_before_us, oldest_us + SLICE_US)
    rows = tx.db.execute(_DUE, (chosen, before_us, most)).fetchall()
    return Forgotten(len(rows), take_pictures(tx, [(row_id, Pointer(*place)) for row_id, *place in rows]))


def take_pictures(tx: Transaction, pictures: list[tuple[int, Pointer]]) -> bool:
    """Takes the pictures from these frames' rows; whether that left segments that nothing points at any more."""
    tx.db.executemany("update frame set segment = null where id = ?", [(row_id,) for row_id, _ in pictures])
    in_use = {
        segment: segment == tx.pictures.current
        or tx.db.execute("select 1 from frame where segment = ? limit 1", (segment,)).fetchone() is not None
        for segment in {place.segment for _, place in pictures}
    }
    tx.pictures.erase(place for _, place in pictures if in_use[place.segment])
    return not all(in_use.values())


# From one segment to the next by the index: `select distinct` would look at every frame that there is.
_SEGMENTS_IN_USE = """
    with recursive used (segment) as (
        select min(segment) from frame where segment is not null
        union all select (select min(segment) from frame where segment > used.segment) from used
            where used.segment is not null)
    select segment from used where segment is not null"""


def unlink_forgotten(tx: Transaction) -> int:
    """Deletes the segment files that no row points at, and returns how many. Only after the forgetting is committed."""
    return tx.pictures.keep_only(segment for (segment,) in tx.db.execute(_SEGMENTS_IN_USE))
