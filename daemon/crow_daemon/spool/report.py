"""What a spool holds, in plain JSON values; works beside a running daemon and without one."""

from pathlib import Path
from typing import Any

from crow_daemon.spool.accounts import Accounts
from crow_daemon.spool.recovery import recover
from crow_shared.errors import CrowError, Kind


def report(directory: Path) -> dict[str, Any]:
    """See docs/OPERATIONS.md for the fields.

    Raises CrowError(NOT_FOUND) where no daemon has spooled yet, CrowError(UNAVAILABLE) when files cannot be read.
    """
    if not directory.is_dir():
        raise CrowError(Kind.NOT_FOUND, "no_spool", f"there is no spool in {directory}")
    found = recover(directory)
    live = [segment for segment in found.segments.values() if segment.is_live(found.accounts)]
    return {
        "directory": str(directory),
        "bytes": sum(segment.disk_bytes for segment in found.segments.values()),
        "segments": len(found.segments),
        "oldest_spooled_us": live[0].oldest_us if live else None,
        "damaged_bytes": sum(damage.end - damage.offset for _, damage in found.damages),
        "quarantined": len(list((directory / "quarantine").glob("*.bin"))),
        "cameras": [
            {"camera_id": mark.camera_id, "spooled": mark.last_seq, "acknowledged": mark.acked_seq}
            for mark in found.accounts.totals()
        ],
        "lost": [
            {
                "camera_id": lost.camera_id,
                "reason": lost.reason,
                "frames": lost.frames,
                "last_detail": lost.last_detail,
            }
            for lost in found.accounts.lost()
        ],
        "epochs": [
            {
                "epoch": epoch,
                "sealed": epoch != found.accounts.epochs()[-1],
                "cameras": [_camera(found.accounts, epoch, mark.camera_id) for mark in found.accounts.marks(epoch)],
            }
            for epoch in found.accounts.epochs()
        ],
    }


def _camera(accounts: Accounts, epoch: str, camera_id: str) -> dict[str, Any]:
    mark = accounts.mark(epoch, camera_id)
    spans = accounts.waiting_spans(epoch, camera_id, 1, mark.last_seq)
    holes = accounts.holes(epoch, camera_id, 1, mark.last_seq)
    return {
        "camera_id": camera_id,
        "last_seq": mark.last_seq,
        "acked_seq": mark.acked_seq,
        "waiting": [list(span) for span in spans],
        "holes": [
            {"from_seq": hole.from_seq, "to_seq": hole.to_seq, "reason": hole.reason, "detail": hole.detail}
            for hole in holes
        ],
    }
