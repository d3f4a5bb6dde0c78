"""What lies between the camera and the shop: drops of rain on the lens."""

from dataclasses import dataclass

import cv2
import numpy as np

from crow_sim.shop.figure import Picture

_RADIUS_SHARE = (0.015, 0.045)  # of the picture's width
_FALL_SHARE_PER_S = 0.12  # of the picture's height; half of the drops run down, the others stay where they hit
_SOFT_EDGE = 0.35  # of the radius


@dataclass(frozen=True, slots=True)
class Rain:
    """How many drops hit the lens in a minute, and for how long each of them stays."""

    drops_per_minute: float = 0.0
    stays_s: float = 20.0


@dataclass(frozen=True, slots=True)
class _Drop:
    """Position and radius in shares of the picture's width and height."""

    from_s: float
    x: float
    y: float
    radius: float
    runs: bool


class WetLens:
    """The drops on one lens; the same for the same seed."""

    def __init__(self, rain: Rain, seed: int, until_s: float) -> None:
        """Drops hit the lens from the start until `until_s`."""
        random = np.random.default_rng(seed)
        count = int(rain.drops_per_minute * until_s / 60)
        self._stays_s = rain.stays_s
        self._drops = [
            _Drop(
                float(random.uniform(0, until_s)),
                float(random.uniform(0, 1)),
                float(random.uniform(0, 1)),
                float(random.uniform(*_RADIUS_SHARE)),
                bool(random.random() < 0.5),
            )
            for _ in range(count)
        ]

    def wet(self, canvas: Picture, time_s: float) -> None:
        """Draws the drops of that time into the picture: through one, it is blurred and upside down."""
        height, width = canvas.shape[:2]
        for drop in self._drops:
            age_s = time_s - drop.from_s
            if not 0 <= age_s < self._stays_s:
                continue
            y = drop.y + (age_s * _FALL_SHARE_PER_S if drop.runs else 0.0)
            _refract(canvas, round(drop.x * width), round(y * height), max(2, round(drop.radius * width)))


def _refract(canvas: Picture, x: int, y: int, radius: int) -> None:
    top, bottom = max(0, y - radius), min(canvas.shape[0], y + radius)
    left, right = max(0, x - radius), min(canvas.shape[1], x + radius)
    if top >= bottom or left >= right:
        return
    patch = canvas[top:bottom, left:right]
    through = cv2.GaussianBlur(cv2.flip(patch, -1), (0, 0), max(1.0, radius / 3))
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
    distance = np.hypot(columns - x, rows - y) / radius
    share = ((1 - distance) / _SOFT_EDGE).clip(0, 1)[..., None]
    patch[:] = (through * share + patch * (1 - share)).astype(np.uint8)
