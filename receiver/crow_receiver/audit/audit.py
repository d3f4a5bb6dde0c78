"""Runs an audit in one read transaction beside the receiver, which need not run."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from crow_receiver.audit.ledger import audit_ledger
from crow_receiver.audit.numbers import ALWAYS, Span, audit_camera
from crow_receiver.audit.report import AuditReport
from crow_receiver.audit.sessions import audit_sessions
from crow_receiver.audit.spool import SpoolStatus, audit_spool
from crow_receiver.queue.port import OutputQueue
from crow_receiver.store import cameras
from crow_shared.clock import Clock
from crow_shared.database import connect, translated_errors
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey


def audit(
    state_dir: Path,
    queue: OutputQueue,
    clock: Clock,
    span: Span = ALWAYS,
    only: CameraKey | None = None,
    spools: Sequence[SpoolStatus] = (),
) -> AuditReport:
    """Proves the promise for a span of capture time, of one camera or of all.

    Raises CrowError(NOT_FOUND) for a camera that is not known, CrowError(UNAVAILABLE) or CrowError(CORRUPT) when the
    databases cannot be read.
    """
    report, path = AuditReport(), state_dir / "receiver.db"
    with translated_errors(path.name), closing(connect(path)) as db, closing(connect(path)) as latest:
        db.execute("begin")
        chosen = [row for row in cameras.every(db) if only is None or row.key == only]
        if only is not None and not chosen:
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {only}")
        now_us = clock.now_us()
        for camera in chosen:
            audit_camera(db, camera, span, report)
            audit_sessions(db, latest, queue, camera, span, now_us, report)
            if span == ALWAYS:
                audit_ledger(db, camera, spools, report)
        for spool in spools:
            audit_spool(db, spool, only, report)
    return report
