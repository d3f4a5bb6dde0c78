"""A pinhole camera above a shop floor.

The world is in metres: x to the right, y away from the camera's wall, z up. The camera hangs at y = 0 and is tilted
down, never turned or rolled, so that people stand upright in the picture.
"""

from dataclasses import dataclass
from math import cos, radians, sin


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera hangs and how it looks; `focal` is in picture widths."""

    x_m: float
    height_m: float
    tilt_deg: float
    focal: float

    def project(self, x_m: float, y_m: float, z_m: float, width: int, height: int) -> tuple[float, float]:
        """The pixel of a point."""
        tilt, z = radians(self.tilt_deg), z_m - self.height_m
        depth_m = y_m * cos(tilt) - z * sin(tilt)
        down_m = -y_m * sin(tilt) - z * cos(tilt)
        scale = self.focal * width / depth_m
        return width / 2 + (x_m - self.x_m) * scale, height / 2 + down_m * scale
