"""What moves, or stands where nothing used to: the regions to hide of a camera without a detector.

It knows bodies by their difference from the empty shop, so it has limits that a detector has not: who has stood still
for minutes becomes part of the background and is seen; so is who was there from the start and has not moved since.

Invariants
1. Until the background was learnt (`_LEARNING_S` of samples), and after each change of the picture's size, the whole
   picture is hidden.
2. A region stays hidden for `_KEPT_S` after its last movement.
3. The background follows what is unchanged within a minute, what differs from it only over `_ABSORBED_S`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_daemon.gate.difference import changed_pixels, smoothed
from crow_daemon.gate.gate import Luma
from crow_daemon.privacy.region import WHOLE, Region

_LEARNING_S = 30.0
_KEPT_S = 10.0
_FOLLOWED_S = 60.0
_ABSORBED_S = 900.0
_MIN_DIFFERENCE = 6.0  # grey levels: less than a gate asks for, since somebody seen is worse than a shelf hidden
_REACH = 15  # pixels at 320: parts of one body are joined, and its edges are included
_LONGEST_STEP_S = 60.0
_MARGIN = 0.1


class MovingRegions:
    """The background of one camera. Its samples come in the order of capture."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._background: NDArray[np.float32] | None = None
        self._moved_s: NDArray[np.float32] | None = None  # when each pixel differed last, on a clock of its own
        self._now_s = 0.0  # the time that samples have covered: jumps of the wall clock do not count
        self._last_us = 0

    def look(self, luma: Luma, capture_us: int) -> tuple[Region, ...]:
        """The regions to hide in this sample."""
        smooth = smoothed(luma)
        if self._background is None or self._moved_s is None or self._background.shape != smooth.shape:
            self._background = smooth.astype(np.float32)
            self._moved_s = np.full(smooth.shape, -np.inf, np.float32)
            self._now_s, self._last_us = 0.0, capture_us
            return (WHOLE,)
        step_s = min(max(capture_us - self._last_us, 0) / 1_000_000, _LONGEST_STEP_S)
        self._now_s, self._last_us = self._now_s + step_s, capture_us
        moving = changed_pixels(_rounded(self._background), smooth, _MIN_DIFFERENCE)
        self._moved_s[moving > 0] = self._now_s
        follow = np.where(moving > 0, step_s / _ABSORBED_S, step_s / _FOLLOWED_S).astype(np.float32)
        self._background += (smooth - self._background) * np.minimum(follow, 1.0)
        if self._now_s < _LEARNING_S:
            return (WHOLE,)
        kept = (self._moved_s >= self._now_s - _KEPT_S).astype(np.uint8)
        return _regions(np.asarray(cv2.dilate(kept, np.ones((_REACH, _REACH), np.uint8)), np.uint8))


def _rounded(background: NDArray[np.float32]) -> Luma:
    return np.asarray(cv2.convertScaleAbs(background), np.uint8)


def _regions(pixels: NDArray[np.uint8]) -> tuple[Region, ...]:
    height, width = pixels.shape
    _, _, boxes, _ = cv2.connectedComponentsWithStats(pixels)
    return tuple(
        Region(left / width, top / height, (left + across) / width, (top + down) / height).grown(_MARGIN)
        for left, top, across, down, _ in boxes[1:].tolist()  # the first is what does not move
    )
