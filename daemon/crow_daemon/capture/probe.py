"""A look at a camera: does it open, what does it send, how soon is there a picture."""

import threading
from dataclasses import dataclass

from crow_daemon.capture.encoder import encode_jpeg, fitted
from crow_daemon.capture.keyframes import KeyframeRhythm
from crow_daemon.capture.source import Source
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

OBSERVED_S = 3.0  # of stream; long enough to see two keyframes of a usual camera


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen. `fps` is measured; `keyframe_interval_ms` is None when fewer than two keyframes came."""

    codec: str
    width: int
    height: int
    fps: float | None
    keyframe_interval_ms: int | None
    first_picture_ms: int
    time_source: str
    snapshot_jpeg: bytes


def probe(camera: Camera, source: Source, rhythm: KeyframeRhythm, clock: Clock, timeout_s: float) -> Probe:
    """Reads a few seconds of a camera. Raises CrowError when no picture comes within `timeout_s`."""
    began_s = clock.monotonic_s()
    alarm = threading.Timer(timeout_s, source.stop)
    alarm.daemon = True
    alarm.start()
    try:
        stream = source.open()
        first_s: float | None = None
        first = last = None
        pictures = 0
        for picture in source.pictures():
            if picture is None:
                continue
            if first is None:
                first, first_s = picture, clock.monotonic_s()
            last = picture
            pictures += 1
            if picture.capture_us - first.capture_us >= OBSERVED_S * 1_000_000:
                break
        if first is None or last is None or first_s is None:
            raise CrowError(Kind.TIMEOUT, "no_picture", f"no whole picture came within {timeout_s:.0f} seconds")
        jpeg = encode_jpeg(last.bgr(*fitted(last.width, last.height, camera.jpeg_long_side)), camera.jpeg_quality)
    finally:
        alarm.cancel()
        source.close()
    lasted_us = last.capture_us - first.capture_us
    return Probe(
        codec=stream.codec,
        width=last.width,
        height=last.height,
        fps=round((pictures - 1) * 1_000_000 / lasted_us, 1) if lasted_us else stream.fps,
        keyframe_interval_ms=None if rhythm.longest_us is None else round(rhythm.longest_us / 1000),
        first_picture_ms=round((first_s - began_s) * 1000),
        time_source=str(last.time_source),
        snapshot_jpeg=jpeg,
    )
