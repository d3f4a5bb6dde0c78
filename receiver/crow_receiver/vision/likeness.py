"""Whether two pictures of one camera show the same, as far as its noise goes. Pure.

Both are sketched: in grey, at most 320 pixels wide, smoothed. The noise is measured by the median absolute deviation of
their difference, and a pixel counts when it differs by several times that. What is left after specks are removed (a
morphological opening) has to be next to nothing: a hand at a shelf is some dozens of pixels. Light that changes is a
difference, too; so two pictures are rather told apart than taken for the same.
"""

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_receiver.vision.pixels import Pixels

Sketch = bytes
"""Width and height as two bytes each, then the grey levels row by row."""

MAX_SKETCH_BYTES = 4 + 320 * 320
_LONG_SIDE = 320  # pixels
_SIZE = struct.Struct(">HH")
_MAD_TO_SIGMA = 1.4826  # of normally distributed noise
_NOISE_FACTOR = 5.0
_LEAST_DIFFERENCE = 8.0  # grey levels
_MOST_NOISE = 6.0  # grey levels; more is another picture
_MOST_CHANGED_PIXELS = 8
_SPECK = np.ones((2, 2), np.uint8)

_Grey = NDArray[np.uint8]


def sketch(picture: Pixels) -> Sketch:
    """The picture's sketch."""
    height, width = picture.shape[:2]
    share = min(1.0, _LONG_SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (3, 3), 0)
    return _SIZE.pack(*size) + np.asarray(grey, np.uint8).tobytes()


def alike(before: Sketch, now: Sketch) -> bool:
    """Whether two sketches show the same."""
    first, second = _grey(before), _grey(now)
    if first is None or second is None or first.shape != second.shape:
        return False
    difference = first.astype(np.int16) - second
    noise = _MAD_TO_SIGMA * float(np.median(np.abs(difference - np.median(difference))))
    if noise > _MOST_NOISE:
        return False
    changed = (np.abs(difference) > max(_LEAST_DIFFERENCE, _NOISE_FACTOR * noise)).astype(np.uint8)
    return cv2.countNonZero(cv2.morphologyEx(changed, cv2.MORPH_OPEN, _SPECK)) <= _MOST_CHANGED_PIXELS


def _grey(of: Sketch) -> _Grey | None:
    if len(of) < _SIZE.size:
        return None
    width, height = _SIZE.unpack_from(of)
    return np.frombuffer(of, np.uint8, offset=_SIZE.size).reshape(height, width)
