"""Where a command writes a picture: to a file, or to standard output."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crow_shared.errors import CrowError, Kind

if TYPE_CHECKING:
    from crow_daemon.capture.source import Bgr  # loads OpenCV, which most commands do without

STDOUT = Path("-")
PICTURE_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_SUFFIXES = (".jpg", ".jpeg", ".png")


def checked_picture_file(path: Path) -> Path:
    """The path, if a picture can be written there. Raises CrowError(INVALID): before any camera is asked."""
    if path != STDOUT:
        if path.suffix.lower() not in _SUFFIXES:
            raise CrowError(Kind.INVALID, "bad_picture_format", f"{path}: a picture ends in {', '.join(_SUFFIXES)}")
        if not path.parent.is_dir():
            raise CrowError(Kind.INVALID, "no_directory", f"there is no directory {path.parent}")
    return path


def put_picture(path: Path, bgr: "Bgr") -> None:
    """Writes the picture, as JPEG to standard output. Raises CrowError."""
    from crow_daemon.stills.still import coded, write_picture  # noqa: PLC0415 — loads OpenCV

    if path == STDOUT:
        sys.stdout.buffer.write(coded(bgr, ".jpg"))
    else:
        write_picture(path, bgr)
