"""Frames for a spool, and what is in one."""

from pathlib import Path

from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import START, Spool
from crow_shared.frame import Frame, TimeSource

ROOM = SpoolLimits(1 << 20)


def frame(camera_id: str = "till", payload: bytes = b"picture", capture_us: int = 1) -> Frame:
    return Frame.of_picture(camera_id, capture_us, TimeSource.ARRIVAL, 4, 3, payload)


def contents(spool: Spool) -> list[Frame]:
    """All frames that wait, epoch by epoch."""
    return [spooled.frame for epoch in spool.epochs() for spooled in spool.read(epoch, START, 1_000_000)]


def seqs(spool: Spool, camera_id: str = "till") -> list[int]:
    return [frame.seq for frame in contents(spool) if frame.camera_id == camera_id]


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def hole_numbers(spool: Spool, epoch: str, camera_id: str = "till") -> list[int]:
    return [seq for hole in spool.holes(epoch, camera_id, 1, 1 << 40) for seq in range(hole.from_seq, hole.to_seq + 1)]
