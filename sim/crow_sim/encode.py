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
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    fps: float,
    codec: Codec = "h264",
    gop_s: float = 1.0,
    *,
    slices: int = 1,
    bits_per_s: int | None = None,
) -> None:
    """Writes pictures (height x width x 3, uint8, BGR; all of the first one's size, which is even) to an MP4 file.

    A picture is coded in so many slices; the rate of bits follows the pictures, or is held at `bits_per_s`.
    The file appears when it is complete; a failure leaves nothing behind. Raises ValueError when there are no pictures,
    CrowError(UNAVAILABLE) when the file cannot be written, and what `pictures` raises.
    """
    rate = Fraction(fps).limit_denominator(1001)
    partial = path.with_name(path.name + ".part")
    try:
        gop = max(1, round(fps * gop_s))
        _write(partial, pictures, rate, codec, gop, _options(codec, gop, slices, bits_per_s))
        partial.replace(path)
    except av.FFmpegError as error:
        raise CrowError(Kind.UNAVAILABLE, "clip_unwritable", f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    rate: Fraction,
    codec: Codec,
    gop: int,
    options: dict[str, str],
) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = _add_stream(container, codec, rate, gop, options, picture)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one picture")
        container.mux(stream.encode(None))


def _add_stream(
    container: OutputContainer,
    codec: Codec,
    rate: Fraction,
    gop: int,
    options: dict[str, str],
    first: NDArray[np.uint8],
) -> VideoStream:
    stream = container.add_stream(_ENCODERS[codec], rate=rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size, context.thread_count, context.time_base = gop, 1, 1 / rate
    return stream


def _options(codec: Codec, gop: int, slices: int, bits_per_s: int | None) -> dict[str, str]:
    options = {"preset": "ultrafast", "tune": "zerolatency"}
    if bits_per_s is None:
        options["crf"] = _CRF[codec]
    else:
        options |= {"preset": "veryfast", "b": str(bits_per_s), "maxrate": str(bits_per_s), "bufsize": str(bits_per_s)}
    if codec == "h264":
        return options | {"sc_threshold": "0", "slices": str(slices), "refs": "1"}
    fixed = f"log-level=none:keyint={gop}:min-keyint={gop}:scenecut=0:pools=1:frame-threads=1:slices={slices}"
    if bits_per_s is not None:
        fixed += f":bitrate={bits_per_s // 1000}:vbv-maxrate={bits_per_s // 1000}:vbv-bufsize={bits_per_s // 1000}"
    return options | {"x265-params": fixed}
