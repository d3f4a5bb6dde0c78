"""What is hidden in a camera's pictures, by its settings.

Invariants
1. Nothing leaves that was not treated: what cannot be hidden raises an error, and the sample is dropped.
2. Masks come first: neither gate nor detector nor the watch over the camera's health sees what is masked.
3. Where anything is to be hidden, a keyframe is never sent as the camera coded it.
"""

from crow_daemon.capture.sight import SampleSight
from crow_daemon.capture.source import Bgr
from crow_daemon.privacy.hide import hide
from crow_daemon.privacy.masks import Masks
from crow_daemon.privacy.moving import MovingRegions
from crow_daemon.registry.camera import Blur, Camera

_MARGIN = 0.15  # by which a person's box is grown on each side


class Privacy:
    """The privacy of one camera."""

    def __init__(self, camera: Camera, *, has_detector: bool) -> None:
        """Without a detector, who is to be blurred is told by movement."""
        self.masks = Masks(camera.masks)
        self.blurs = camera.blur is Blur.PEOPLE
        self._moving = MovingRegions() if self.blurs and not has_detector else None

    @property
    def needs_pixels(self) -> bool:
        """Whether pictures have to be decoded to be sent."""
        return bool(self.masks) or self.blurs

    def look(self, sight: SampleSight) -> None:
        """Each sample in the order of capture, whether it is sent or not."""
        if self._moving is not None:
            sight.moving = self._moving.look(sight.luma, sight.picture.capture_us)

    def hidden(self, sight: SampleSight) -> Bgr:
        """The picture to send."""
        if not self.blurs:
            return sight.bgr
        people = tuple(person.region.grown(_MARGIN) for person in sight.people)
        hidden = hide(sight.bgr, people + sight.moving)
        return self.masks.paint(hidden) if self.masks else hidden  # smoothing has greyed the masks' edges
