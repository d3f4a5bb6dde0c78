"""From a keyframe of a camera's stream to pixels.

libav is given parameter sets and slices alone: what else a camera puts into its stream says nothing about the picture,
and libav would have to be trusted with it. Each picture has a decoder of its own, so nothing of one gets into another.
"""

import av
import numpy as np

from crow_receiver.vision.pixels import Pixels, corrupt, reduced
from crow_shared.frame import MAX_PIXELS, Encoding
from crow_shared.h26x import KEYFRAME_SLICES, PARAMETER_SETS, annex_b, nal_type, nal_units

_DECODERS = {Encoding.H264: "h264", Encoding.H265: "hevc"}
# Before cropping; what is left after it, inspection has bounded. `err_detect=explode` is left out: it finds at most 4 %
# more turned bits, in H.265 of several slices, and refuses headers that cameras write loosely.
_OPTIONS = {"max_pixels": str(MAX_PIXELS * 2)}
_BLOCK_CHROMA_PIXELS = 8  # half of the smallest coding tree block of H.265
# Ones behind a slice of H.265 make its decoder believe at the next block that the slice has ended. A whole slice's
# decoder has stopped before; one that was cut off ends there, and not in blocks made up from nothing. One block of 64 x
# 64 pixels may read a few kilobytes first.
_FULL_STOP = b"\xff" * 4096


def decode_keyframe(encoding: Encoding, coded: bytes, size: tuple[int, int], part: int) -> Pixels:
    """An inspected keyframe of `size` as `crow_receiver.vision.decode.decode` describes it.

    Damage in an H.264 picture is told by libav. In H.265 it notices some, and leaves out what it does not get to, which
    is found here; but it goes on undisturbed where damaged bits happen to mean something.
    """
    try:
        pictures = _decoded(encoding, _for_decoder(encoding, coded))
    except av.FFmpegError as error:
        raise corrupt(error.strerror or type(error).__name__) from None
    if len(pictures) != 1:
        raise corrupt(f"it decodes to {len(pictures)} pictures")
    picture = pictures[0]
    if (picture.width, picture.height) != size:
        raise corrupt(f"it decodes as {picture.width} x {picture.height}, not as {size[0]} x {size[1]}")
    if picture.is_corrupt or (encoding is Encoding.H265 and _has_undecoded_blocks(picture)):
        raise corrupt("a part of it is missing or damaged")
    scaled = picture.reformat(*reduced(size, part), "bgr24", interpolation="AREA", threads=1)
    return scaled.to_ndarray().astype(np.uint8, copy=False)


def _for_decoder(encoding: Encoding, coded: bytes) -> bytes:
    stop = _FULL_STOP if encoding is Encoding.H265 else b""
    kept: list[bytes] = []
    for unit in nal_units(coded):
        kind = nal_type(encoding, unit)
        if kind in KEYFRAME_SLICES[encoding]:
            kept.append(unit + stop)
        elif kind in PARAMETER_SETS[encoding]:
            kept.append(unit)
    return annex_b(kept)


def _decoded(encoding: Encoding, access_unit: bytes) -> list[av.VideoFrame]:
    context = av.CodecContext.create(_DECODERS[encoding], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.options = _OPTIONS
    context.thread_count, context.thread_type = 1, "NONE"  # more cost CPU, and can hang in libav on damaged input
    return [*context.decode(av.Packet(access_unit)), *context.decode(None)]


def _has_undecoded_blocks(picture: av.VideoFrame) -> bool:
    """Whether libav left a block as it got it: zeros, and no colour has zero in both chroma planes."""
    first, second = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in picture.planes[1:3]
    )
    rows, columns = (range(0, length, _BLOCK_CHROMA_PIXELS) for length in first.shape)
    largest = np.maximum.reduceat(np.maximum.reduceat(first | second, rows, axis=0), columns, axis=1)
    return bool((largest == 0).any())
