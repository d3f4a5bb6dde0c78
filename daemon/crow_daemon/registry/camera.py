"""What is known about a camera, every field checked."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id
from crow_shared.zones import Polygon, Zone, checked_polygon, checked_zones

MAX_NAME_CHARACTERS = 120
SAMPLE_INTERVAL_MS = (33, 3_600_000)  # 30 a second to one an hour
HEARTBEAT_S = (1, 86_400)
JPEG_LONG_SIDE = (64, 4096)  # pixels
JPEG_QUALITY = (30, 100)
MOTION_TTL_S = (0.0, 3600.0)
MAX_MASKS = 32
GRID = (0, 31)  # rows and columns of a mosaic
MAX_USERNAME_CHARACTERS = 128


class SourceKind(StrEnum):
    """Where pictures come from."""

    RTSP = "rtsp"
    FILE = "file"


class Transport(StrEnum):
    """What RTP travels over; TCP loses nothing on the way."""

    TCP = "tcp"
    UDP = "udp"


class CaptureMode(StrEnum):
    """What a frame is made of."""

    AUTO = "auto"  # the cheaper of the two that does what is asked
    KEYFRAME = "keyframe"  # the camera's own keyframes, not decoded here
    DECODE = "decode"  # decoded, scaled, made a JPEG


class ReaderChoice(StrEnum):
    """Which reader connects to the camera."""

    AUTO = "auto"  # `direct` where it can, else `pyav`
    DIRECT = "direct"  # our own, of RTSP over TCP, that keeps keyframes alone
    PYAV = "pyav"  # libav


class GateMode(StrEnum):
    """Which samples are worth sending."""

    OFF = "off"  # all of them
    ACTIVITY = "activity"  # those that differ from the last one sent
    PERSON = "person"  # those in which the detector sees somebody


class Blur(StrEnum):
    """Who is made unrecognisable before a picture leaves the daemon."""

    OFF = "off"
    PEOPLE = "people"  # whom the detector finds; without one, whatever moves


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """A live camera. The password is kept elsewhere: see `Registry.credentials`.

    `sub_url` is the same picture in a smaller stream, for the gate to look at; it takes the same login.
    The certificate behind an rtsps URL is not verified: cameras sign their own.
    """

    url: CameraUrl
    username: str | None = None
    transport: Transport = Transport.TCP
    sub_url: CameraUrl | None = None


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
    mode: CaptureMode = CaptureMode.AUTO
    reader: ReaderChoice = ReaderChoice.AUTO
    motion_ttl_s: float = 2.0  # a gate lets samples through for so long after activity ended
    pre_roll: bool = True  # a gate lets the sample before activity began through as well
    masks: tuple[Polygon, ...] = ()  # painted over
    blur: Blur = Blur.OFF
    zones: tuple[Zone, ...] = ()
    grid_row: int | None = None  # place in a mosaic; set together with grid_column
    grid_column: int | None = None
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
        _within("motion_ttl_s", self.motion_ttl_s, MOTION_TTL_S)
        if len(self.masks) > MAX_MASKS:
            raise _invalid("masks", f"a camera has at most {MAX_MASKS} masks")
        for mask in self.masks:
            checked_polygon(mask)
        checked_zones(self.zones)
        if (self.grid_row is None) != (self.grid_column is None):
            raise _invalid("grid", "a place in the mosaic has a row and a column")
        for place in (self.grid_row, self.grid_column):
            _within("grid", place or 0, GRID)
        self._check_mode()
        match self.source:
            case RtspAddress(username=str() as username):
                if not 1 <= len(username) <= MAX_USERNAME_CHARACTERS or not username.isprintable() or ":" in username:
                    raise _invalid(
                        "username", f"a user name has 1 to {MAX_USERNAME_CHARACTERS} printable characters and no colon"
                    )
            case Recording(path=path):
                if not path.is_absolute():
                    raise _invalid("path", f"the path of a recording is absolute, this is not: {str(path)!r}")

    def _check_mode(self) -> None:
        """What can be told without the camera; the rest is said in its status."""
        needed = pixels_needed(self)
        if self.mode is CaptureMode.KEYFRAME and needed is not None:
            raise _invalid("mode", f"keyframes cannot be sent as they are: pictures have to be decoded for {needed}")
        if self.reader is ReaderChoice.DIRECT:
            match self.source:
                case Recording():
                    raise _invalid("reader", "the direct reader reads cameras, a recording needs pyav")
                case RtspAddress(transport=Transport.UDP):
                    raise _invalid("reader", "the direct reader speaks TCP only; use pyav for UDP")
                case RtspAddress(url=url) if url.scheme != "rtsp":
                    raise _invalid("reader", "the direct reader speaks no TLS; use pyav for rtsps")

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


def pixels_needed(camera: Camera) -> str | None:
    """What pictures have to be decoded for before they are sent, as an operator would say it; None if for nothing."""
    if camera.masks:
        return "the masks"
    if camera.blur is not Blur.OFF:
        return "the blurring of people"
    if camera.gate is not GateMode.OFF and not (isinstance(camera.source, RtspAddress) and camera.source.sub_url):
        return "the gate, which has no substream to look at"
    return None


def _within(field: str, value: float, bounds: tuple[float, float]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise _invalid(field, f"{field} lies between {bounds[0]} and {bounds[1]}, not at {value}")


def _invalid(field: str, message: str) -> CrowError:
    return CrowError(Kind.INVALID, f"bad_{field}", message)
