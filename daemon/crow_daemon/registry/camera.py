"""What is known about a camera, every field checked."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

MAX_NAME_CHARACTERS = 120
SAMPLE_INTERVAL_MS = (33, 3_600_000)  # 30 a second to one an hour
HEARTBEAT_S = (1, 86_400)
JPEG_LONG_SIDE = (64, 4096)  # pixels
JPEG_QUALITY = (30, 100)
MAX_USERNAME_CHARACTERS = 128


class SourceKind(StrEnum):
    """Where pictures come from."""

    RTSP = "rtsp"
    FILE = "file"


class Transport(StrEnum):
    """What RTP travels over; TCP loses nothing on the way."""

    TCP = "tcp"
    UDP = "udp"


class GateMode(StrEnum):
    """Which samples are worth sending."""

    OFF = "off"  # all of them
    ACTIVITY = "activity"  # those that differ from the last one sent


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """A live camera. The password is kept elsewhere: see `Registry.credentials`.

    The certificate behind an rtsps URL is not verified: cameras sign their own.
    """

    url: CameraUrl
    username: str | None = None
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True)
class Recording:
    """A video file whose first picture was taken at `start_us`, in microseconds since the Unix epoch."""

    path: Path
    start_us: int


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera and how it is sampled. Raises CrowError(INVALID) when a field is out of bounds.

    `finished` is true for a recording that was read to its end; it is not read again unless it is enabled anew.
    `revision` rises whenever something changes that a running capture has to know.
    """

    id: str
    name: str
    source: RtspAddress | Recording
    sample_interval_ms: int = 1000
    gate: GateMode = GateMode.OFF
    heartbeat_s: int = 60  # a gate lets at least one sample through in this time
    jpeg_long_side: int = 896  # pixels; what Gemma-3's vision tower takes
    jpeg_quality: int = 85
    enabled: bool = True
    finished: bool = False
    revision: int = 1

    def __post_init__(self) -> None:
        """Checks every field."""
        checked_id(self.id, "camera")
        if not 1 <= len(self.name) <= MAX_NAME_CHARACTERS or not self.name.isprintable():
            raise _invalid("name", f"a camera's name has 1 to {MAX_NAME_CHARACTERS} printable characters")
        _within("sample_interval_ms", self.sample_interval_ms, SAMPLE_INTERVAL_MS)
        _within("heartbeat_s", self.heartbeat_s, HEARTBEAT_S)
        _within("jpeg_long_side", self.jpeg_long_side, JPEG_LONG_SIDE)
        _within("jpeg_quality", self.jpeg_quality, JPEG_QUALITY)
        match self.source:
            case RtspAddress(username=str() as username):
                if not 1 <= len(username) <= MAX_USERNAME_CHARACTERS or not username.isprintable() or ":" in username:
                    raise _invalid(
                        "username", f"a user name has 1 to {MAX_USERNAME_CHARACTERS} printable characters and no colon"
                    )
            case Recording(path=path):
                if not path.is_absolute():
                    raise _invalid("path", f"the path of a recording is absolute, this is not: {str(path)!r}")

    @property
    def kind(self) -> SourceKind:
        """A live camera or a recording."""
        return SourceKind.FILE if isinstance(self.source, Recording) else SourceKind.RTSP

    @property
    def sample_interval_us(self) -> int:
        """The time between samples, in microseconds."""
        return self.sample_interval_ms * 1000

    @property
    def wanted(self) -> bool:
        """Whether it is to be captured now."""
        return self.enabled and not self.finished


def _within(field: str, value: int, bounds: tuple[int, int]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise _invalid(field, f"{field} lies between {bounds[0]} and {bounds[1]}, not at {value}")


def _invalid(field: str, message: str) -> CrowError:
    return CrowError(Kind.INVALID, f"bad_{field}", message)
