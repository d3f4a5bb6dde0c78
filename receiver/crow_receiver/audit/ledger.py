"""What daemons say that they sent, against the frames that are here.

It is compared where it can be: minutes of which the daemon told more than `SETTLED_US` after their last frame had come,
and not older than the oldest session that is kept. There, by camera and minute, no more frames can be here than were
sent; and what was sent and is not here is missing with a reason, or waits at the daemon, which only its spool knows.
"""

import sqlite3
from collections.abc import Sequence

from crow_receiver.audit.intervals import covered
from crow_receiver.audit.report import AuditReport, FaultKind, LedgerEnds
from crow_receiver.audit.spool import SpoolStatus
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.ledger import MINUTE_US

SETTLED_US = 60_000_000

# Frames of streams alone: who uploads frames tells of no samples.
_MINUTES = f"""
    with arrived as (
        select capture_us / {MINUTE_US} * {MINUTE_US} as minute_us, count(*) as frames, max(received_us) as last_us
        from frame where camera = :camera and epoch in (select epoch from position where camera = :camera)
        group by 1)
    select ledger.minute_us, sent, coalesce(frames, 0) from ledger left join arrived using (minute_us)
    where camera = :camera and ledger.minute_us > -{MINUTE_US} + (
            select min(first_capture_us) from session where camera = :camera and state <> 'expiring')
        and coalesce(last_us, ledger.minute_us) + {SETTLED_US}
            <= (select max(received_us) from ledger where camera = :camera)"""  # noqa: S608 — constants

_MISSING = "select coalesce(sum(to_seq - from_seq + 1), 0) from missing where camera = ?"


def audit_ledger(db: sqlite3.Connection, camera: CameraRow, spools: Sequence[SpoolStatus], report: AuditReport) -> None:
    """Compares the camera's ledger with its frames, and with the spools that are said to have the rest."""
    ends = LedgerEnds(camera.key)
    report.ledgers.append(ends)
    for minute_us, sent, stored in db.execute(_MINUTES, {"camera": camera.id}).fetchall():
        ends.sent += sent
        ends.stored += min(sent, stored)
        if stored > sent:
            detail = f"minute {minute_us}: {stored} frames are here, {sent} were sent"
            report.fault(FaultKind.LEDGER_SHORT, camera.key, detail, stored - sent)
    (ends.missing,) = db.execute(_MISSING, (camera.id,)).fetchone()
    ends.at_daemon = _at_daemon(camera, spools)
    if ends.at_daemon is not None and ends.elsewhere:
        detail = f"{ends.sent} were sent, {ends.stored} of them are here"
        report.fault(FaultKind.LEDGER_LOST, camera.key, detail, ends.elsewhere)


def _at_daemon(camera: CameraRow, spools: Sequence[SpoolStatus]) -> int | None:
    """Frames that wait in spools, or were let go there and not told of yet; None when no spool knows the camera."""
    found = [
        covered([*spooled.waiting, *((hole.from_seq, hole.to_seq) for hole in spooled.holes)], 0, spooled.last_seq)
        for spool in spools
        if (spool.organization_id, spool.site_id) == (camera.key.organization_id, camera.key.site_id)
        for epoch in spool.epochs
        for spooled in epoch.cameras
        if spooled.camera_id == camera.key.camera_id
    ]
    return sum(found) if found else None
