"""Keyframes as cameras and encoders make them, and what libav makes of them."""

from fractions import Fraction

import av
import numpy as np

from crow_shared.frame import Encoding

ENCODERS = {Encoding.H264: "libx264", Encoding.H265: "libx265"}
DECODERS = {Encoding.H264: "h264", Encoding.H265: "hevc"}
X26X_OPTIONS = {Encoding.H264: "x264-params", Encoding.H265: "x265-params"}
QUIET = {Encoding.H264: "", Encoding.H265: "log-level=none:pools=1:frame-threads=1:"}


def drawn_picture(width: int, height: int, shift: int = 0) -> np.ndarray:
    """A picture with soft and sharp parts (height x width x 3, BGR), another one for each shift."""
    rows, columns = np.mgrid[0:height, 0:width]
    soft = np.stack([(columns + shift) * 200 // width, rows * 200 // height, (rows + columns) % 256], axis=2)
    soft[height // 4 : height // 2, (width // 4 + shift) % width : width // 2 + shift] = (20, 60, 230)
    return soft.astype(np.uint8)


def coded_stream(
    encoding: Encoding,
    width: int,
    height: int,
    params: str = "",
    *,
    pictures: int = 1,
    pix_fmt: str = "yuv420p",
    profile: str | None = None,
    b_frames: int = 0,
    keyframe_every: int = 250,
    picture: np.ndarray | None = None,
) -> list[tuple[bool, bytes]]:
    """Access units in coding order, and whether the encoder calls each a keyframe. `params` are x264's or x265's."""
    context = av.CodecContext.create(ENCODERS[encoding], "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pix_fmt
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.gop_size, context.max_b_frames, context.thread_count = keyframe_every, b_frames, 1
    options = {"preset": "veryfast", X26X_OPTIONS[encoding]: QUIET[encoding] + params}
    context.options = options | ({"profile": profile} if profile else {})
    units = []
    for number in [*range(pictures), None]:
        frame = None
        if number is not None:
            shown = drawn_picture(width, height, number * 4) if picture is None else picture
            frame = av.VideoFrame.from_ndarray(shown, format="bgr24").reformat(format=pix_fmt, threads=1)
            frame.pts, frame.time_base = number, context.time_base
        units += [(packet.is_keyframe, bytes(packet)) for packet in context.encode(frame)]
    return units


def keyframe(encoding: Encoding, width: int = 320, height: int = 180, params: str = "", **more: object) -> bytes:
    """The first access unit of a stream: an IDR with its parameter sets in front."""
    return coded_stream(encoding, width, height, params, **more)[0][1]  # type: ignore[arg-type]


def decoded_by_libav(encoding: Encoding, access_unit: bytes) -> list[av.VideoFrame]:
    """The pictures in it. Raises av.FFmpegError where libav does."""
    context = av.CodecContext.create(DECODERS[encoding], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count, context.thread_type = 1, "NONE"
    context.options = {"max_pixels": "4000000"}
    return [*context.decode(av.Packet(access_unit)), *context.decode(None)]
