"""A scene: one view, the visits that happen in it, and what disturbs the picture: light, noise, rain."""

from dataclasses import dataclass, field
from math import pi, sin

from crow_sim.shop.lens import Rain
from crow_sim.shop.script import Visit
from crow_sim.shop.view import View


@dataclass(frozen=True, slots=True)
class Light:
    """How bright the shop is: slow drift, as by daylight, and sudden steps, as by a switch.

    `drift_share` is the amplitude (0.1 is ±10 %); each step is (from when in s, gain). `reach` is the share of the
    picture's width, from the left, on which it falls: less than 1 is a window or one lamp of several.
    """

    drift_share: float = 0.0
    drift_period_s: float = 120.0
    steps: tuple[tuple[float, float], ...] = ()
    reach: float = 1.0

    def gain(self, time_s: float) -> float:
        """The factor on every pixel."""
        gain = 1.0
        for from_s, step_gain in self.steps:
            if time_s >= from_s:
                gain = step_gain
        return gain * (1 + self.drift_share * sin(2 * pi * time_s / self.drift_period_s))


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides a picture.

    `seed` is that of the sensor's noise, `noise_sigma` its strength in levels, `sign` what a board on the wall says.
    """

    view: View
    visits: tuple[Visit, ...] = ()
    light: Light = field(default_factory=Light)
    noise_sigma: float = 1.8
    seed: int = 1
    rain: Rain = field(default_factory=Rain)
    sign: str = ""
