"""What a video file says about itself, read with libav."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crow_shared.errors import CrowError, Kind

_EARLIEST_YEAR = 2000  # before: a clock that was never set


@dataclass(frozen=True, slots=True)
class VideoFile:
    """Its length, None where it does not tell; and when it says that it was made."""

    path: Path
    lasts_us: int | None
    created: datetime | None


def look_into(path: Path) -> VideoFile:
    """Opens a file and reads its header. Raises CrowError(NOT_FOUND, UNAVAILABLE, UNSUPPORTED) as the capture would."""
    # Loads libav, which the daemon's own process, started by the same command line, must not.
    from crow_daemon.capture.recording_source import open_recording  # noqa: PLC0415

    with open_recording(path) as container:
        if not container.streams.video:
            raise CrowError(Kind.UNSUPPORTED, "no_video", f"{path} has no video")
        return VideoFile(path, container.duration or None, _created(container.metadata))


def _created(metadata: dict[str, str]) -> datetime | None:
    for name in ("com.apple.quicktime.creationdate", "creation_time", "DATE_RECORDED", "date"):
        try:
            made = datetime.fromisoformat(metadata.get(name, ""))
        except ValueError:
            continue
        made = made if made.tzinfo else made.replace(tzinfo=UTC)
        if made.year >= _EARLIEST_YEAR and made <= datetime.now(UTC):
            return made
    return None
