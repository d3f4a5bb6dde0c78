"""From a JPEG to pixels."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from crow_receiver.vision.pixels import Pixels, corrupt, reduced

_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_STDERR = 2
_MOST_COMPLAINT_BYTES = 4096
_HARMLESS = b"extraneous bytes before marker"  # some cameras pad between segments; every pixel was decoded
# How libjpeg's warnings begin (its jerror.h), but for those that say nothing of the pixels. Other lines are of other
# threads, which may write to standard error meanwhile.
_WARNINGS = (
    b"Corrupt JPEG data",
    b"Premature end of JPEG file",
    b"Inconsistent progression sequence",
    b"Invalid SOS parameters",
    b"Application transferred too many scanlines",
)
_one_at_a_time = threading.Lock()  # there is but one standard error


def decode_jpeg(jpeg: bytes, size: tuple[int, int], part: int) -> Pixels:
    """A JPEG of `size` as `crow_receiver.vision.decode.decode` describes it.

    What EXIF says about turning it is ignored, as for all other frames. Points standard error elsewhere for that time;
    what other threads write there meanwhile comes afterwards.
    """
    with _one_at_a_time, _complaints() as complaints:
        try:
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), _FLAGS[part] | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise corrupt(str(error.err)) from None
    if picture is None:
        raise corrupt("the decoder refused it")
    width, height = reduced(size, part)
    if picture.shape != (height, width, 3):
        raise corrupt(f"it decodes as {picture.shape[1]} x {picture.shape[0]}, not as {width} x {height}")
    for line in complaints:
        if _HARMLESS not in line:
            raise corrupt(line.decode("ascii", "replace"))
    return picture.astype(np.uint8, copy=False)


@contextmanager
def _complaints() -> Iterator[list[bytes]]:
    """Collects libjpeg's warnings inside the block: lines on standard error.

    Writing there is its only way of telling that it made up the rest of a damaged picture.
    """
    lines: list[bytes] = []
    original, memory = os.dup(_STDERR), os.memfd_create("complaints")
    try:
        os.dup2(memory, _STDERR)
        try:
            yield lines
        finally:
            os.dup2(original, _STDERR)
            for line in os.pread(memory, _MOST_COMPLAINT_BYTES, 0).splitlines(keepends=True):
                if line.startswith(_WARNINGS):
                    lines.append(line.rstrip())
                else:
                    os.write(_STDERR, line)
    finally:
        os.close(original)
        os.close(memory)
