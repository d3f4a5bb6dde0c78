"""From the bytes of a JPEG to pixels, for the worker process alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_receiver.ingest.picture import inspect_jpeg
from crow_shared.errors import CrowError, Kind

Picture = NDArray[np.uint8]

_STDERR = 2
_MOST_COMPLAINT_BYTES = 4096
_HARMLESS = b"extraneous bytes before marker"  # some cameras pad between segments; every pixel was decoded


def decode_jpeg(jpeg: bytes) -> Picture:
    """The picture as rows of blue, green, red; what EXIF says about turning it is ignored, as for all other frames.

    Raises what `inspect_jpeg` raises, and CrowError(CORRUPT) when not every pixel can be decoded. Points standard
    error elsewhere for that time, so no other thread may be writing there.
    """
    width, height = inspect_jpeg(jpeg)
    with _complaints() as complaints:
        try:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
        except cv2.error as error:
            raise _corrupt(str(error.err)) from None
    if picture is None:
        raise _corrupt("the decoder refused it")
    if picture.shape != (height, width, 3):
        raise _corrupt(f"it decodes as {picture.shape[1]} x {picture.shape[0]}, not as {width} x {height}")
    for line in complaints:
        if _HARMLESS not in line:
            raise _corrupt(line.decode("ascii", "replace"))
    return picture.astype(np.uint8, copy=False)


@contextmanager
def _complaints() -> Iterator[list[bytes]]:
    """Collects the lines written to standard error inside the block.

    Writing there is libjpeg's only way of telling that it made up the rest of a damaged picture.
    """
    lines: list[bytes] = []
    original, memory = os.dup(_STDERR), os.memfd_create("complaints")
    try:
        os.dup2(memory, _STDERR)
        try:
            yield lines
        finally:
            os.dup2(original, _STDERR)
            lines += os.pread(memory, _MOST_COMPLAINT_BYTES, 0).splitlines()
    finally:
        os.close(original)
        os.close(memory)


def _corrupt(why: str) -> CrowError:
    return CrowError(Kind.CORRUPT, "picture_corrupt", f"the picture cannot be decoded: {why}")
