"""One sample on its way through gate and privacy: decoded, masked and searched for people once, and only when asked."""

from crow_daemon.capture.encoder import fitted
from crow_daemon.capture.source import Bgr, Picture
from crow_daemon.detect.port import Person, PersonDetector
from crow_daemon.gate.gate import LUMA_WIDTH, Luma
from crow_daemon.privacy.masks import Masks
from crow_daemon.privacy.region import Region


class SampleSight:
    """Everything about a sample that is derived from its pixels; all of it may raise CrowError(CORRUPT)."""

    def __init__(self, picture: Picture, long_side: int, masks: Masks, detector: PersonDetector | None) -> None:
        """`long_side` is that of the JPEG, in pixels."""
        self.picture = picture
        self.moving: tuple[Region, ...] = ()  # what moves in it, where that is looked for
        self._long_side = long_side
        self._masks = masks
        self._detector = detector
        self._luma: Luma | None = None
        self._bgr: Bgr | None = None
        self._people: tuple[Person, ...] | None = None

    # Not `functools.cached_property`: in Python 3.11 all cameras of a process would wait for each other's decoding.

    @property
    def luma(self) -> Luma:
        """In grey, without what is masked."""
        if self._luma is None:
            pixels = self.picture.luma(*fitted(self.picture.width, self.picture.height, LUMA_WIDTH))
            self._luma = self._masks.paint(pixels) if self._masks else pixels
        return self._luma

    @property
    def visible(self) -> Luma | None:
        """Of the size of `luma`: 0 where it is masked, 255 elsewhere; None where nothing is."""
        height, width = self.luma.shape
        return self._masks.visible(width, height) if self._masks else None

    @property
    def bgr(self) -> Bgr:
        """In colour and at the size that is sent, without what is masked."""
        if self._bgr is None:
            size = fitted(self.picture.width, self.picture.height, self._long_side)
            pixels = self.picture.bgr(*size)
            self._bgr = self._masks.paint(pixels) if self._masks else pixels
        return self._bgr

    @property
    def people(self) -> tuple[Person, ...]:
        """Everybody whom the detector finds. Raises CrowError(DETECTOR_FAILED)."""
        if self._people is None:
            self._people = self._detector.find(self.bgr) if self._detector else ()
        return self._people

    def somebody(self) -> bool:
        """Whether the detector sees anybody."""
        return self._detector is not None and any(
            person.confidence >= self._detector.confidence for person in self.people
        )
