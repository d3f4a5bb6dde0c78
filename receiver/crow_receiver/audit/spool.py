"""What a daemon's spool says, against what is here: between the two no number may be lost."""

import sqlite3
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from crow_receiver.audit.intervals import holes_and_overlaps
from crow_receiver.audit.report import AuditReport, FaultKind
from crow_receiver.store import cameras
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

Seq = Annotated[int, Field(ge=0)]


class SpoolHole(BaseModel):
    """Numbers that the spool has let go, with the reason."""

    from_seq: Seq
    to_seq: Seq
    reason: str


class SpoolCamera(BaseModel):
    """One camera's numbers in one epoch of a spool."""

    camera_id: str
    last_seq: Seq
    acked_seq: Seq
    waiting: list[tuple[Seq, Seq]]
    holes: list[SpoolHole]


class SpoolEpoch(BaseModel):
    """One run of numbers."""

    epoch: str
    cameras: list[SpoolCamera]


class SpoolStatus(BaseModel):
    """What `crow-daemon spool status --json` prints; it says more, which is passed over."""

    organization_id: str
    site_id: str
    daemon_id: str
    epochs: list[SpoolEpoch]


def parsed_spool(text: str | bytes, name: str) -> SpoolStatus:
    """The status in `text`. Raises CrowError(INVALID) naming `name` when it is none."""
    try:
        return TypeAdapter(SpoolStatus).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise CrowError(
            Kind.INVALID, "bad_spool_status", f"{name} is not what `crow-daemon spool status --json` prints: {why}"
        ) from None


def audit_spool(db: sqlite3.Connection, spool: SpoolStatus, only: CameraKey | None, report: AuditReport) -> None:
    """Every number that the spool has given out is here, waits there, or was let go there with a reason.

    The status must have been taken before the database was read: what is acknowledged later would look lost.
    """
    for epoch in spool.epochs:
        for camera in epoch.cameras:
            key = CameraKey(spool.organization_id, spool.site_id, camera.camera_id)
            if only is None or key == only:
                _audit_camera(db, key, epoch.epoch, camera, report)


def _audit_camera(
    db: sqlite3.Connection, key: CameraKey, epoch: str, spooled: SpoolCamera, report: AuditReport
) -> None:
    known = cameras.find(db, key)
    durable = cameras.durable_seq(db, known.id, epoch) if known else 0
    if spooled.acked_seq > durable:
        detail = f"{epoch}: acknowledged up to {spooled.acked_seq}, here {durable}"
        report.fault(FaultKind.SPOOL_AHEAD, key, detail, spooled.acked_seq - durable)
    here = max(durable, spooled.acked_seq)
    let_go = [(hole.from_seq, hole.to_seq) for hole in spooled.holes]
    for is_hole, (first, last) in holes_and_overlaps(
        [sorted(spooled.waiting), sorted(let_go)], here + 1, spooled.last_seq
    ):
        if is_hole:
            report.fault(FaultKind.SPOOL_LOST, key, f"{epoch}: {first} to {last}", last - first + 1)
