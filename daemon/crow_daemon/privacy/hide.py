"""Making parts of a picture unrecognisable, for good.

A Gaussian blur alone would not do: it is a filter that can be turned back (deconvolution), and networks trained for
that restore faces from it. So each part is first reduced to a few means of cells (pixelated: what was within a cell is
gone, whatever is done afterwards), a person's face to about one cell, and then smoothed so that the cells' edges do not
draw the eye.
"""

import cv2
import numpy as np

from crow_daemon.capture.source import Bgr
from crow_daemon.privacy.region import Region

_CELLS = 4  # across the shorter side: a face is a quarter of a standing person's width or more
_LEAST_CELL_SHARE = 1 / 56  # of the picture's longer side; a region of several people gets no finer cells
_LARGEST_CELL_SHARE = 1 / 12


def hide(bgr: Bgr, regions: tuple[Region, ...]) -> Bgr:
    """A copy in which the regions are unrecognisable."""
    hidden = bgr.copy()
    height, width = bgr.shape[:2]
    longer = max(width, height)
    for region in regions:
        left, top, right, bottom = region.pixels(width, height)
        if left >= right or top >= bottom:
            continue
        part = hidden[top:bottom, left:right]
        across, down = right - left, bottom - top
        cell = min(max(min(across, down) / _CELLS, longer * _LEAST_CELL_SHARE), longer * _LARGEST_CELL_SHARE)
        columns, rows = max(1, int(across / cell)), max(1, int(down / cell))
        cells = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(cells, (across, down), interpolation=cv2.INTER_NEAREST)
        part[:] = np.asarray(cv2.GaussianBlur(coarse, (0, 0), cell / 2), np.uint8)
    return hidden
