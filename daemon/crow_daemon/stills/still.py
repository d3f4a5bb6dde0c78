"""One picture of a camera, whole and in its full size."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from crow_daemon.capture.choice import MODE_CHANGED, StreamMemory
from crow_daemon.capture.chosen_source import source_of
from crow_daemon.capture.source import Bgr, Picture, Source, StreamInfo
from crow_daemon.capture.timed import stopped_after
from crow_daemon.privacy.hide import hide
from crow_daemon.privacy.masks import Masks
from crow_daemon.privacy.region import WHOLE
from crow_daemon.registry.camera import Blur, Camera, CaptureMode, GateMode
from crow_daemon.registry.secret import Credentials
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

_ATTEMPTS = 3  # a reader that finds that another one has to read is followed so often
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Still:
    """A picture as pixels, when it was taken and by whose clock, and the stream that it is from."""

    bgr: Bgr
    capture_us: int
    time_source: TimeSource
    stream: StreamInfo


def take_still(camera: Camera, credentials: Credentials | None, clock: Clock, timeout_s: float) -> Still:
    """The first whole picture that comes, with what the camera's settings hide hidden.

    Who is to be blurred is not looked for in a single picture: of such a camera the whole picture is blurred.
    Raises CrowError: as the connection fails, or TIMEOUT (`no_picture`). Whoever does not answer at all is waited for
    until the connection's own time-outs end, even past `timeout_s`.
    """
    whole = replace(camera, mode=CaptureMode.DECODE, gate=GateMode.OFF)
    memory = StreamMemory(whole)
    ends_s = clock.monotonic_s() + timeout_s
    for attempt in range(1, _ATTEMPTS + 1):
        source = source_of(whole, credentials, clock, memory)
        try:
            return _first_picture(source, camera, max(0.0, ends_s - clock.monotonic_s()))
        except CrowError as error:
            if error.code != MODE_CHANGED or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def coded(bgr: Bgr, suffix: str) -> bytes:
    """The picture in the format of a file name's suffix: .jpg, .jpeg or .png. Raises CrowError(TOO_LARGE)."""
    settings = [] if suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    done, found = cv2.imencode(suffix.lower(), bgr, settings)
    if not done:
        height, width = bgr.shape[:2]
        raise CrowError(Kind.TOO_LARGE, "picture_too_large", f"a picture of {width}x{height} cannot be coded")
    return found.tobytes()


def write_picture(path: Path, bgr: Bgr) -> None:
    """Writes a picture in one step, so that who reads the file sees a whole one. Raises CrowError."""
    picture = coded(bgr, path.suffix)
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(picture)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise CrowError(Kind.UNAVAILABLE, "not_written", f"cannot write {path}: {error.strerror}") from None


def _first_picture(source: Source, camera: Camera, timeout_s: float) -> Still:
    with stopped_after(source, timeout_s):
        stream = source.open()
        for picture in source.pictures():
            if picture is not None:
                try:
                    return Still(hidden(picture, camera), picture.capture_us, picture.time_source, stream)
                except CrowError as error:
                    if error.kind is not Kind.CORRUPT:  # a damaged one: the next may be whole
                        raise
    raise CrowError(Kind.TIMEOUT, "no_picture", f"no whole picture came within {timeout_s:.0f} seconds")


def hidden(picture: Picture, camera: Camera) -> Bgr:
    """The picture in its full size, with what the camera's settings hide hidden. Raises CrowError(CORRUPT)."""
    bgr = picture.bgr(picture.width, picture.height)
    if camera.blur is not Blur.OFF:
        bgr = hide(bgr, (WHOLE,))
    masks = Masks(camera.masks)
    return masks.paint(bgr) if masks else bgr
