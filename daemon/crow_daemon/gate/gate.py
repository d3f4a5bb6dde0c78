"""What every gate has in common: it judges a small grey picture and is told which one was sent."""

from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]  # rows x columns, 0 is black

LUMA_WIDTH = 320  # pixels; what a gate looks at


class GateReason(StrEnum):
    """Why a gate held a sample back."""

    NO_ACTIVITY = "no_activity"


class Gate(Protocol):
    """Decides on samples of one camera, in the order of capture."""

    def judge(self, luma: Luma, capture_us: int) -> GateReason | None:
        """None to send the sample, or why not."""
        ...

    def sent(self, luma: Luma, capture_us: int) -> None:
        """The sample that went out: later ones are compared with it."""
        ...
