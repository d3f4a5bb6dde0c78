"""What gate and privacy need from a person detector."""

from dataclasses import dataclass
from typing import Protocol

from crow_daemon.capture.source import Bgr
from crow_daemon.privacy.region import Region

DETECTOR_FAILED = "detector_failed"  # the CrowError code of a detector that did not answer


@dataclass(frozen=True, slots=True)
class Person:
    """Where somebody is, and how sure the detector is of it: 0 to 1."""

    region: Region
    confidence: float


class PersonDetector(Protocol):
    """Used by the threads of all cameras of a process."""

    @property
    def confidence(self) -> float:
        """From which on somebody counts as seen."""
        ...

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        """Everybody in the picture, those of half that confidence included: it is enough to be hidden.

        Raises CrowError(DETECTOR_FAILED).
        """
        ...
