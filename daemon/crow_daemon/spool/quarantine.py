"""Where damaged bytes are set aside, so that somebody can look at them: `spool/quarantine`, bounded, oldest go first.

Each piece is two files: the bytes, and a JSON with what is known of them. It is a courtesy: a disk that refuses to take
them costs nothing but a log line.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

MAX_BYTES = 16 << 20
_MAX_PIECE_BYTES = 4 << 20


class Quarantine:
    """The damaged pieces of one spool."""

    def __init__(self, spool_directory: Path) -> None:
        self._directory = spool_directory / "quarantine"

    def set_aside(self, segment: int, offset: int, damaged: bytes, known: dict[str, Any]) -> None:
        """Keeps bytes from this place; a place that is here already is left alone."""
        name = f"{segment:012d}-{offset:010d}"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path = self._directory / f"{name}.bin"
            if path.exists():
                return
            kept = damaged[:_MAX_PIECE_BYTES]
            _write_private(path, kept)
            known = {"segment": segment, "offset": offset, "bytes": len(damaged), "kept_bytes": len(kept)} | known
            _write_private(path.with_suffix(".json"), json.dumps(known, indent=1).encode())
            self._keep_within_bound()
        except OSError as error:
            log.warning("damaged bytes could not be set aside", piece=name, error=error.strerror)

    def erase(self, camera_id: str, from_us: int, to_us: int) -> None:
        """Deletes what is, or may be, a picture of this camera and span of capture time. Raises OSError."""
        for path in self._directory.glob("*.bin"):
            known = _known(path)
            if "camera_id" in known and (known["camera_id"] != camera_id or not from_us <= known["capture_us"] < to_us):
                continue
            _delete(path)

    def _keep_within_bound(self) -> None:
        pieces = sorted(self._directory.glob("*.bin"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        total = sum(path.stat().st_size for path in pieces)
        for path in pieces[:-1]:
            if total <= MAX_BYTES:
                break
            total -= path.stat().st_size
            _delete(path)


def _known(path: Path) -> dict[str, Any]:
    """What was noted of a piece; nothing when a crash kept that from being written."""
    with suppress(FileNotFoundError, ValueError):
        known: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return known
    return {}


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _delete(path: Path) -> None:
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)
