"""Masks: parts of the picture that are painted black, in every picture, before anything else looks at it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_shared.zones import Polygon

_SUBPIXEL_BITS = 4
_EDGE_PX = 3  # the outline's width: a scaled pixel on the edge is a mean that holds some of what is behind the mask


class Masks:
    """The masks of one camera. Used by one thread."""

    def __init__(self, polygons: tuple[Polygon, ...]) -> None:
        """Polygons in shares of the picture's width and height."""
        self._polygons = polygons
        self._open: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to paint."""
        return bool(self._polygons)

    def paint(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy, of any size, in grey or colour, that holds nothing of what is masked."""
        height, width = pixels.shape[:2]
        return np.asarray(cv2.bitwise_and(pixels, pixels, mask=self.visible(width, height)), np.uint8)

    def visible(self, width: int, height: int) -> NDArray[np.uint8]:
        """255 where nothing is masked, else 0; kept, since a camera's pictures come in two sizes or three."""
        found = self._open.get((width, height))
        if found is None:
            found = np.full((height, width), 255, np.uint8)
            # A pixel's centre lies at whole numbers, its left edge half a pixel before.
            size, centre = np.array((width, height)), 0.5
            for polygon in self._polygons:
                points = ((np.array(polygon) * size - centre) * (1 << _SUBPIXEL_BITS)).round().astype(np.int32)
                cv2.fillPoly(found, [points], 0, shift=_SUBPIXEL_BITS)
                cv2.polylines(found, [points], True, 0, _EDGE_PX, shift=_SUBPIXEL_BITS)
            self._open = {**self._open, (width, height): found} if len(self._open) < 4 else {(width, height): found}
        return found
