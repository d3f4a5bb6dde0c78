"""Whether a camera shows what it should: one alert at a time, that starts and ends.

Invariants
1. An alert starts when its cause was seen in every sample for as long as `_AFTER_S` says, and in `_MIN_SAMPLES` at
   least: a dropped picture or a customer's back raises none.
2. It ends with the first sample without the cause. Covered and moved are one cause, what is usual is lost: before a
   plain wall, one customer makes the difference between them.
3. What the camera usually shows is learnt from samples without a cause alone, over minutes. What it shows in its place
   is believed in the end, so that no alert lasts for ever: after `_VIEW_BELIEVED_AFTER_S` if it has fine edges of its
   own, else (a hand, a bag, a bare wall) after `_COVER_BELIEVED_AFTER_S`, in which somebody has had time to go and
   look. Then the alert ends, and this is what is usual.
4. What is masked is not looked at, nor are a mask's edges. Where less than `_LEAST_VISIBLE` is left there is no alert:
   one customer may be all that there is to be seen.

Frozen: the picture repeats with its noise. Black: dark, and without contrast. Covered and moved are told by structure,
which light does not change: the edges at 80 pixels and their directions, correlated with what is usual. Where that is
lost, the camera has been moved if there are other edges, else covered. One that is out of focus keeps its coarse edges
but loses the fine ones (the Laplacian's variance relative to the picture's own). Some 0.1 ms a sample.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from crow_daemon.gate.difference import repeats, visible_pixels
from crow_daemon.gate.gate import Alert, Luma

_AFTER_S = {Alert.BLACK: 5.0, Alert.FROZEN: 30.0, Alert.COVERED: 20.0, Alert.MOVED: 60.0}
_MIN_SAMPLES = 3
_LOST_SIGHT = frozenset({Alert.COVERED, Alert.MOVED})
_VIEW_BELIEVED_AFTER_S = 600.0
_COVER_BELIEVED_AFTER_S = 86_400.0
_BLACK_MEAN, _BLACK_DEVIATION = 24.0, 6.0  # grey levels
_EDGES_SIZE = (80, 45)  # pixels: width, height
_LOST = 0.4  # correlation of edges with the usual ones; another scene has about 0, customers leave 0.67 and more
_USUAL = 0.6  # … from which on a sample is learnt from
_BARE = 0.4  # edges this much weaker than usual are none
_BLURRED = 0.2  # sharpness relative to the usual
_FINE = 0.4  # sharpness relative to the usual; what is close to the lens, a hand or a bag, has less
_MIN_EDGES = 1.0  # grey levels; a wall has less, so there is nothing to be lost
_LEARNT_IN_S = 120.0
_LEAST_VISIBLE = 0.25  # of the pixels
_AROUND = np.ones((3, 3), np.uint8)  # the pixels that an edge is reckoned from

_Edges = NDArray[np.float32]


class PictureHealth:
    """Looks at the samples of one camera, in the order of capture."""

    def __init__(self) -> None:
        """Knows nothing yet of what the camera usually shows."""
        self.alert: Alert | None = None
        self._before: Luma | None = None
        self._cause: Alert | None = None
        self._cause_since_us = 0
        self._cause_samples = 0
        self._seen_us = 0
        self._usual: _Edges | None = None
        self._usual_sharpness = 0.0
        self._is_view = False  # what is there in place of the usual structure has fine edges of its own

    def look(self, luma: Luma, capture_us: int, visible: Luma | None = None) -> Alert | None:
        """The alert that there is with this sample; `visible` as in `Sight`."""
        elapsed_s = min(max(capture_us - self._seen_us, 0) / 1_000_000, _LEARNT_IN_S)
        self._seen_us = capture_us
        cause = self._find_cause(luma, visible, elapsed_s)
        if not _is_one_cause(cause, self._cause) or capture_us < self._cause_since_us:
            self._cause_since_us, self._cause_samples = capture_us, 0
        self._cause = cause
        self._cause_samples += 1
        lasts_s = (capture_us - self._cause_since_us) / 1_000_000
        if cause in _LOST_SIGHT and lasts_s >= (_VIEW_BELIEVED_AFTER_S if self._is_view else _COVER_BELIEVED_AFTER_S):
            self._usual = None
            cause = None
        if cause is None:
            self.alert = None
        elif lasts_s >= _AFTER_S[cause] and self._cause_samples >= _MIN_SAMPLES:
            self.alert = cause
        elif not _is_one_cause(cause, self.alert):
            self.alert = None
        return self.alert

    def _find_cause(self, luma: Luma, visible: Luma | None, elapsed_s: float) -> Alert | None:
        before, self._before = self._before, luma
        if visible_pixels(luma, visible) < _LEAST_VISIBLE * luma.size:
            return None
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma, mask=visible))
        if mean < _BLACK_MEAN and deviation < _BLACK_DEVIATION:
            return Alert.BLACK
        if before is not None and repeats(before, luma, visible):
            return Alert.FROZEN
        return self._lost(_edges(luma, visible), _sharpness(luma, visible, deviation), elapsed_s)

    def _lost(self, edges: _Edges, sharpness: float, elapsed_s: float) -> Alert | None:
        """Why the usual structure is not there; None if it is, and then it is learnt from."""
        if self._usual is None or self._usual.shape != edges.shape:
            self._usual, self._usual_sharpness = edges, sharpness
            return None
        likeness = _correlation(self._usual, edges)
        usual_strength, strength = _strength(self._usual), _strength(edges)
        if usual_strength >= _MIN_EDGES and likeness < _LOST:
            is_bare = strength < _BARE * usual_strength
            self._is_view = not is_bare or (strength >= _MIN_EDGES and sharpness >= _FINE * self._usual_sharpness)
            return Alert.COVERED if is_bare else Alert.MOVED
        self._is_view = False
        if usual_strength >= _MIN_EDGES and sharpness < _BLURRED * self._usual_sharpness:
            return Alert.COVERED
        if likeness >= _USUAL or usual_strength < _MIN_EDGES:
            share = elapsed_s / _LEARNT_IN_S
            cv2.accumulateWeighted(edges, self._usual, share)
            self._usual_sharpness += share * (sharpness - self._usual_sharpness)
        return None


def _is_one_cause(one: Alert | None, other: Alert | None) -> bool:
    return one is other or {one, other} == _LOST_SIGHT


def _edges(luma: Luma, visible: Luma | None) -> _Edges:
    """The gradient across and down, one above the other; where pixels are masked, that of the others, in a column."""
    small = cv2.resize(luma, _EDGES_SIZE, interpolation=cv2.INTER_AREA)
    gradient = [cv2.Sobel(small, cv2.CV_32F, dx, dy, scale=0.25) for dx, dy in ((1, 0), (0, 1))]
    if visible is not None:
        whole = cv2.resize(visible, _EDGES_SIZE, interpolation=cv2.INTER_AREA) == 255
        telling = cv2.erode(whole.astype(np.uint8), _AROUND) > 0
        gradient = [part[telling].reshape(-1, 1) for part in gradient]
    return np.concatenate(gradient).astype(np.float32, copy=False)


def _strength(edges: _Edges) -> float:
    """The mean gradient, in grey levels."""
    return float(np.abs(edges).mean())


def _sharpness(luma: Luma, visible: Luma | None, deviation: float) -> float:
    telling = None if visible is None else cv2.erode(visible, _AROUND)
    _, fine = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S), mask=telling)
    return (float(fine[0, 0]) / max(deviation, 1.0)) ** 2


def _correlation(one: _Edges, other: _Edges) -> float:
    """The cosine between them; 0 where one of them is flat."""
    a, b = one.ravel(), other.ravel()
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.dot(a, b)) / scale if scale > 0 else 0.0
