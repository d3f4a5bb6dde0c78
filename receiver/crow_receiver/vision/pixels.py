"""Decoded pictures, as all engines see them."""

import math

import numpy as np
from numpy.typing import NDArray

from crow_shared.errors import CrowError, Kind

Pixels = NDArray[np.uint8]
"""Rows of blue, green, red: height x width x 3."""

PARTS = (1, 2, 4, 8)  # by what a picture's size may be divided while it is decoded: what libjpeg can do


def reduced(size: tuple[int, int], part: int) -> tuple[int, int]:
    """A width and height divided by one of `PARTS`, as libjpeg rounds."""
    return math.ceil(size[0] / part), math.ceil(size[1] / part)


def corrupt(why: str) -> CrowError:
    """The error for a picture of which not every pixel can be decoded."""
    return CrowError(Kind.CORRUPT, "picture_corrupt", f"the picture cannot be decoded: {why}")
