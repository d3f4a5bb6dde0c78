"""A look at a stream: how soon is there a picture, how many, how far apart are keyframes, and whose clock is used."""

from dataclasses import dataclass

from crow_daemon.capture.encoder import encode_jpeg
from crow_daemon.capture.rhythm import KeyframeRhythm
from crow_daemon.capture.sight import SampleSight
from crow_daemon.capture.source import Picture, Source, StreamInfo
from crow_daemon.capture.timed import stopped_after
from crow_daemon.privacy.masks import Masks
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

OBSERVED_S = 3.0  # of stream at least; long enough for two keyframes of a usual camera
LONGEST_OBSERVED_S = 12.0  # where keyframes are rarer


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a stream; `fps` is measured, `damaged` counts pictures that came so."""

    stream: StreamInfo
    last: Picture
    fps: float | None
    keyframe_interval_ms: int | None  # None when fewer than two keyframes came
    first_picture_ms: int
    time_source: TimeSource
    clock_skew_us: int | None
    damaged: int


def look(source: Source, rhythm: KeyframeRhythm, clock: Clock, timeout_s: float) -> Seen:
    """Reads some seconds of a stream of which every picture is wanted, and closes it.

    Raises CrowError when it fails, or no picture comes within `timeout_s`.
    """
    began_s = clock.monotonic_s()
    first: Picture | None = None
    first_s, pictures, damaged = 0.0, 0, 0
    with stopped_after(source, timeout_s):
        stream = source.open()
        last: Picture | None = None
        for picture in source.pictures():
            if picture is None:
                damaged += 1
                continue
            if first is None:
                first, first_s = picture, clock.monotonic_s()
            last = picture
            pictures += 1
            observed_us = picture.capture_us - first.capture_us
            wanted_s = LONGEST_OBSERVED_S if rhythm.longest_us is None else OBSERVED_S
            if observed_us >= wanted_s * 1_000_000:
                break
        if first is None or last is None:
            raise CrowError(Kind.TIMEOUT, "no_picture", f"no whole picture came within {timeout_s:.0f} seconds")
    lasted_us = last.capture_us - first.capture_us
    return Seen(
        stream=stream,
        last=last,
        fps=round((pictures - 1) * 1_000_000 / lasted_us, 1) if lasted_us else stream.fps,
        keyframe_interval_ms=None if rhythm.longest_us is None else round(rhythm.longest_us / 1000),
        first_picture_ms=round((first_s - began_s) * 1000),
        time_source=last.time_source,
        clock_skew_us=last.clock_skew_us,
        damaged=damaged,
    )


def frame_bytes(source: Source, camera: Camera, timeout_s: float) -> tuple[StreamInfo, int]:
    """How the camera is read as it is set, and how large its first frame is. Raises CrowError as `look` does."""
    with stopped_after(source, timeout_s):
        stream = source.open()
        for picture in source.pictures():
            if picture is not None:
                return stream, _coded_bytes(picture, camera)
        raise CrowError(Kind.TIMEOUT, "no_picture", f"no whole picture came within {timeout_s:.0f} seconds")


def _coded_bytes(picture: Picture, camera: Camera) -> int:
    if picture.coded is not None:
        return len(picture.coded.payload)
    sight = SampleSight(picture, camera.jpeg_long_side, Masks(camera.masks), None)
    return len(encode_jpeg(sight.bgr, camera.jpeg_quality))
