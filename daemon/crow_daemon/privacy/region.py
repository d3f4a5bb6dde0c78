"""A rectangle in a picture of any size."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Region:
    """In shares of the picture's width and height, 0 to 1, from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> "Region":
        """By a share of its width and height on each side; never out of the picture."""
        across, down = (self.right - self.left) * share, (self.bottom - self.top) * share
        return Region(
            max(0.0, self.left - across),
            max(0.0, self.top - down),
            min(1.0, self.right + across),
            min(1.0, self.bottom + down),
        )

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the pixels that it touches; the latter two lie just outside."""
        return (
            min(max(math.floor(self.left * width), 0), width),
            min(max(math.floor(self.top * height), 0), height),
            min(max(math.ceil(self.right * width), 0), width),
            min(max(math.ceil(self.bottom * height), 0), height),
        )


WHOLE = Region(0.0, 0.0, 1.0, 1.0)
