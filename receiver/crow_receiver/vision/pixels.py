"""Decoded pictures, as all engines see them."""

import numpy as np
from numpy.typing import NDArray

from crow_shared.errors import CrowError, Kind

Pixels = NDArray[np.uint8]
"""Rows of blue, green, red: height x width x 3."""


def corrupt(why: str) -> CrowError:
    """The error for a picture of which not every pixel can be decoded."""
    return CrowError(Kind.CORRUPT, "picture_corrupt", f"the picture cannot be decoded: {why}")
