"""Which recordings are to be read, in which order, and when each was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crow_daemon.recordings.named_time import named_time
from crow_daemon.registry.camera import Recording
from crow_shared.errors import CrowError, Kind

if TYPE_CHECKING:
    from crow_daemon.recordings.video_file import VideoFile

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".flv")


@dataclass(frozen=True, slots=True)
class Planned:
    """A recording, how long it lasts (None: it does not tell), and how it is known when it began."""

    recording: Recording
    lasts_us: int | None
    because: str


def plan(paths: Sequence[Path], recorded_at_us: int | None) -> list[Planned]:
    """Files, and the videos in folders, in order of time. `recorded_at_us` is when the one file began, if it is known.

    Raises CrowError: NOT_FOUND or INVALID for what is no video file or tells no time, as the capture does for what it
    cannot read.
    """
    from crow_daemon.recordings.video_file import look_into  # noqa: PLC0415 — loads libav, which the daemon may not

    files = [file for path in paths for file in _files(path)]
    if not files:
        raise CrowError(Kind.NOT_FOUND, "no_recordings", f"there is no video in it ({', '.join(SUFFIXES)})")
    if recorded_at_us is not None and len(files) > 1:
        raise CrowError(
            Kind.INVALID, "bad_recorded_at", f"--recorded-at tells the time of one file; these are {len(files)}"
        )
    planned = [_planned(look_into(file), recorded_at_us) for file in dict.fromkeys(files)]
    return sorted(planned, key=lambda one: (one.recording.start_us, one.recording.path))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file.resolve() for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not path.is_file():
        raise CrowError(Kind.INVALID, "recording_missing", f"there is no file {path}")
    return [path.resolve()]


def _planned(file: "VideoFile", recorded_at_us: int | None) -> Planned:
    named = named_time(file.path.name)
    if recorded_at_us is not None:
        return Planned(Recording(file.path, recorded_at_us), file.lasts_us, "as given")
    if named is not None:
        return Planned(Recording(file.path, _us(named)), file.lasts_us, "by the file's name")
    if file.created is not None:
        return Planned(Recording(file.path, _us(file.created)), file.lasts_us, "by the time of creation in the file")
    raise CrowError(
        Kind.INVALID,
        "no_recorded_at",
        f"neither the name of {file.path} nor the file itself tells when it began: give --recorded-at",
    )


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
