"""The frames that were described last, by which near-duplicates are answered.

Invariants
1. A reference is a frame that the engine has described, never one that was answered by another: small changes add up
   until they are seen.
2. It serves frames of the same session and camera for `most_s`, as long as what is asked of the camera stays the same.
3. Nothing of it has to last: without one, a frame is described.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from crow_receiver.vision.likeness import Sketch
from crow_receiver.vision.port import FrameName, VisionRequest
from crow_receiver.vision.schema import Analysis, LineCrossings
from crow_receiver.vision.usage import Usage

_MOST_CAMERAS = 4096  # 58 KB each


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame that was described."""

    frame: FrameName
    capture_us: int
    asked: object  # what about
    sketch: Sketch
    analysis: Analysis

    def again(self, duration_ms: int) -> Analysis:
        """The analysis of a frame that shows the same. Who crossed a line is not told twice."""
        provenance = self.analysis.provenance.model_copy(
            update={"duplicate_of": self.frame.index, "usage": Usage(), "duration_ms": duration_ms}
        )
        crossings: list[LineCrossings] | None = None if self.analysis.scene.crossings is None else []
        scene = self.analysis.scene.model_copy(update={"crossings": crossings})
        return Analysis(scene=scene, provenance=provenance)


class References:
    """One for each camera."""

    def __init__(self, most_s: float) -> None:
        """`most_s`: for so many seconds a frame may stand for others; 0: never."""
        self._most_us = round(most_s * 1_000_000)
        self._of: OrderedDict[str, Reference] = OrderedDict()

    def compared(self, request: VisionRequest) -> tuple[VisionRequest, Reference | None]:
        """The request with what its picture is to be compared with, and the frame that it may turn out to repeat."""
        if not self._most_us:
            return replace(request, frame=None), None  # then nobody draws a sketch, either
        reference = self._of.get(request.camera)
        if reference is None or not self._serves(reference, request):
            return request, None
        return replace(request, reference=reference.sketch), reference

    def keep(self, request: VisionRequest, sketch: Sketch, analysis: Analysis) -> None:
        """Has a frame that was described stand for those to come."""
        if request.frame is None or not sketch:
            return
        self._of[request.camera] = Reference(request.frame, request.capture_us, _asked(request), sketch, analysis)
        self._of.move_to_end(request.camera)
        if len(self._of) > _MOST_CAMERAS:
            self._of.popitem(last=False)

    def _serves(self, reference: Reference, request: VisionRequest) -> bool:
        if request.frame is None or reference.frame.session_id != request.frame.session_id:
            return False
        age_us = request.capture_us - reference.capture_us
        return reference.asked == _asked(request) and 0 < age_us <= self._most_us


def _asked(request: VisionRequest) -> object:
    return request.camera_name, request.zones, request.brief
