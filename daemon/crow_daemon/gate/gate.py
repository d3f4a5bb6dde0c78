"""The words and pictures that all parts of the gate have in common."""

from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]  # rows x columns, 0 is black

LUMA_WIDTH = 320  # pixels; what a gate looks at


class GateReason(StrEnum):
    """Why a gate held a sample back."""

    NO_ACTIVITY = "no_activity"  # like the last one sent, but for light and noise
    NO_PERSON = "no_person"  # the detector sees nobody
    DUPLICATE = "duplicate"  # the last one sent once more, noise and all
    BLACK = "black"  # there is an alert of that name, and nothing moves
    FROZEN = "frozen"
    COVERED = "covered"


class Alert(StrEnum):
    """What is wrong with what a camera shows, or with how it is looked at."""

    BLACK = "black"  # nothing to be seen: dark, or a cap on the lens
    FROZEN = "frozen"  # the stream runs, its picture stands still, noise and all
    COVERED = "covered"  # covered, or out of focus: what there was to be seen is gone
    MOVED = "moved"  # it looks at something else
    NO_DETECTOR = "no_detector"  # people are to be told by a detector that fails: activity stands in


class Sight(Protocol):
    """A sample as the gate sees it: what is masked is not there."""

    @property
    def luma(self) -> Luma:
        """At most `LUMA_WIDTH` pixels on the longer side."""
        ...

    @property
    def visible(self) -> Luma | None:
        """Of the size of `luma`: 0 where it is masked, 255 elsewhere; None where nothing is."""
        ...

    def somebody(self) -> bool:
        """Whether the detector sees anybody; looked for when asked. Raises CrowError when it fails."""
        ...
