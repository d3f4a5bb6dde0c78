"""Encoding as cameras do: H.264 or H.265, a key frame at fixed intervals, no B-frames, no waiting."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from crow_shared.errors import CrowError, Kind

Codec = Literal["h264", "hevc"]

_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
_CRF = {"h264": "26", "hevc": "28"}


def encode(
    path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float, codec: Codec = "h264", gop_s: float = 1.0
) -> None:
    """Writes pictures (height x width x 3, uint8, BGR; all of the first one's size, which is even) to an MP4 file.

    The file appears when it is complete; a failure leaves nothing behind. Raises ValueError when there are no pictures,
    CrowError(UNAVAILABLE) when the file cannot be written, and what `pictures` raises.
    """
    rate = Fraction(fps).limit_denominator(1001)
    partial = path.with_name(path.name + ".part")
    try:
        _write(partial, pictures, rate, codec, max(1, round(fps * gop_s)))
        partial.replace(path)
    except av.FFmpegError as error:
        raise CrowError(Kind.UNAVAILABLE, "clip_unwritable", f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, pictures: Iterable[NDArray[np.uint8]], rate: Fraction, codec: Codec, gop: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = _add_stream(container, codec, rate, gop, picture)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one picture")
        container.mux(stream.encode(None))


def _add_stream(
    container: OutputContainer, codec: Codec, rate: Fraction, gop: int, first: NDArray[np.uint8]
) -> VideoStream:
    stream = container.add_stream(_ENCODERS[codec], rate=rate, options=_options(codec, gop))
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size, context.thread_count, context.time_base = gop, 1, 1 / rate
    return stream


def _options(codec: Codec, gop: int) -> dict[str, str]:
    common = {"preset": "ultrafast", "tune": "zerolatency", "crf": _CRF[codec]}
    if codec == "h264":
        return common | {"sc_threshold": "0"}
    return common | {"x265-params": f"log-level=none:keyint={gop}:min-keyint={gop}:scenecut=0:pools=1:frame-threads=1"}
