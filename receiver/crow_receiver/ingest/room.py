"""Whether the disk has room for more frames. What the receiver holds is analysed and dispatched in any case."""

import os
from pathlib import Path

import structlog

from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()


class DiskRoom:
    """Watches the free space of the file system that the receiver's state lies in."""

    def __init__(self, directory: Path, min_free_bytes: int) -> None:
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._short = False

    def free_bytes(self) -> int:
        """What is left for us now; 0 when the disk does not say."""
        try:
            said = os.statvfs(self._directory)
        except OSError:
            return 0
        return said.f_bavail * said.f_frsize

    def shortage(self) -> str | None:
        """Why no frames are taken now, in plain words; None when they are."""
        free = self.free_bytes()
        short = free < self._min_free_bytes
        why = f"the disk of {self._directory} has {free >> 20} MiB left, under {self._min_free_bytes >> 20} MiB"
        if short and not self._short:
            log.error("the disk is nearly full; frames are not taken until there is room", reason=why)
        elif self._short and not short:
            log.info("the disk has room again; frames are taken", free_bytes=free)
        self._short = short
        return f"no frames are taken: {why}" if short else None

    def require(self) -> None:
        """Raises CrowError(UNAVAILABLE) while there is no room: whoever brings a frame keeps it."""
        why = self.shortage()
        if why is not None:
            raise CrowError(Kind.UNAVAILABLE, "disk_full", why)
