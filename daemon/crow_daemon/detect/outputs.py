"""What the outputs of person detectors mean. Pure.

YOLOX (Ge et al., arXiv:2107.08430, Apache-2.0) gives one tensor of [1, anchors, 5 + classes]: for each cell of three
grids, with strides of 8, 16 and 32 pixels, centre, size, objectness and the classes' probabilities. As exported by
default, centre and size are still relative to the cell (and the size a logarithm); exported with
`decode_in_inference` they are pixels of the input.

RT-DETR (Zhao et al., arXiv:2304.08069, Apache-2.0) gives boxes that need no suppression: `labels`, `boxes` (left, top,
right, bottom in pixels of the size that it is told) and `scores` as its authors export it, or `logits` and
`pred_boxes` (centre and size, in shares of the input) as Hugging Face does.

Class 0 is a person, as in COCO.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Found = tuple[Values, Values]
"""Boxes [n, 4] as left, top, right, bottom, and their scores [n]."""

STRIDES = (8, 16, 32)
_PERSON = 0
_SAME_PERSON_OVERLAP = 0.45  # intersection over union, as YOLOX's own demo has it
_LARGEST_LOGARITHM = 10.0  # of a size in cells: more overflows, and is no person


class Style(Enum):
    """How a model's outputs are to be read."""

    YOLOX = auto()
    RT_DETR_BOXES = auto()
    RT_DETR_LOGITS = auto()


def style_of(outputs: Mapping[str, Sequence[object]]) -> Style | None:
    """The style of a model by the names and shapes of its outputs; None for one that is not known."""
    if {"labels", "boxes", "scores"} <= outputs.keys():
        return Style.RT_DETR_BOXES
    if {"logits", "pred_boxes"} <= outputs.keys():
        return Style.RT_DETR_LOGITS
    if len(outputs) == 1:
        (shape,) = outputs.values()
        if len(shape) == 3 and isinstance(shape[2], int) and shape[2] >= 6:
            return Style.YOLOX
    return None


def cells(width: int, height: int) -> int:
    """How many anchors YOLOX has for an input of that size, in pixels."""
    return sum((width // stride) * (height // stride) for stride in STRIDES)


def are_pixels(output: Values, width: int) -> bool:
    """Whether YOLOX's boxes are decoded: centres then lie all over the input, else within a few cells' widths."""
    return bool(output[0, :, 0].max() > width / 2)


def yolox(output: Values, width: int, height: int, *, decoded: bool, least: float) -> Found:
    """People in the input's pixels, from [1, anchors, 5 + classes], with a score of `least` or more."""
    rows = output[0]
    scores = rows[:, 4] * rows[:, 5 + _PERSON]
    keep = scores >= least
    rows, scores = rows[keep], scores[keep]
    centres, sizes = rows[:, 0:2], rows[:, 2:4]
    if not decoded:
        origins, strides = _grid(width, height)
        centres = (centres + origins[keep]) * strides[keep]
        sizes = np.exp(np.minimum(sizes, _LARGEST_LOGARITHM)) * strides[keep]
    return _apart(_corners(centres, sizes), scores)


def rt_detr_boxes(labels: NDArray[np.int64], boxes: Values, scores: Values, least: float) -> Found:
    """People in the pixels of the size that the model was told, from [1, n], [1, n, 4] and [1, n]."""
    keep = (labels[0] == _PERSON) & (scores[0] >= least)
    return boxes[0][keep], scores[0][keep]


def rt_detr_logits(logits: Values, boxes: Values, least: float) -> Found:
    """People in shares of the input, from [1, n, classes] and [1, n, 4]."""
    scores = (1 / (1 + np.exp(-np.clip(logits[0, :, _PERSON], -50, 50)))).astype(np.float32)
    keep = scores >= least
    return _corners(boxes[0][keep, 0:2], boxes[0][keep, 2:4]), scores[keep]


def _grid(width: int, height: int) -> tuple[Values, Values]:
    """For each anchor its cell's column and row [n, 2], and its stride [n, 1]."""
    origins, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        origins.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        strides.append(np.full((columns.size, 1), stride))
    return np.concatenate(origins).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _corners(centres: Values, sizes: Values) -> Values:
    return np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).astype(np.float32)


def _apart(boxes: Values, scores: Values) -> Found:
    """Of boxes that overlap much, the best alone (non-maximum suppression)."""
    waiting, kept = np.argsort(-scores), []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[_overlap(boxes[best], boxes[waiting]) < _SAME_PERSON_OVERLAP]
    return boxes[kept], scores[kept]


def _overlap(box: Values, others: Values) -> Values:
    """Intersection over union."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-6), np.float32)
