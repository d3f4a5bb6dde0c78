"""Small person detectors in ONNX files that really look at pixels: whatever is bright is a person.

Each cell of a grid is scored by its mean brightness, so their boxes are where bright squares were drawn. They have the
inputs and outputs of YOLOX and RT-DETR as exported by their authors, and of RT-DETR as exported by Hugging Face.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

SIDE = 96  # pixels of the input: square
STRIDES = (8, 16, 32)
BRIGHT = 200.0  # grey levels
_SHARPNESS = 0.5  # of the score's rise, per grey level
_CLASSES = 80
_OPSET, _IR = 17, 8  # old enough for every onnxruntime that is allowed


class _Graph:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []

    def constant(self, name: str, value: "np.ndarray") -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def brightness(self, levels: float) -> str:
        """The mean of each cell in grey levels [1, cells], of all strides one after the other."""
        self.node("ReduceMean", ["images"], "grey", axes=[1], keepdims=1)
        self.node("Mul", ["grey", self.constant("levels", np.float32(levels))], "grey_levels")
        flat = []
        for stride in STRIDES:
            pooled = self.node(
                "AveragePool", ["grey_levels"], f"pool{stride}", kernel_shape=[stride, stride], strides=[stride, stride]
            )
            shape = self.constant(f"shape{stride}", np.array([1, -1], np.int64))
            flat.append(self.node("Reshape", [pooled, shape], f"flat{stride}"))
        return self.node("Concat", flat, "brightness", axis=1)

    def logit(self, levels: float = 1.0) -> str:
        """Over 0 where a cell is bright [1, cells]."""
        above = self.node("Sub", [self.brightness(levels), self.constant("bright", np.float32(BRIGHT))], "above")
        return self.node("Mul", [above, self.constant("sharpness", np.float32(_SHARPNESS))], "logit")

    def save(self, path: Path, inputs: list, outputs: list) -> Path:
        graph = helper.make_graph(self.nodes, "bright", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        checker.check_model(model)
        save(model, str(path))
        return path


def _cells() -> "tuple[np.ndarray, np.ndarray]":
    """Column and row of each cell [cells, 2], and its stride [cells, 1]."""
    places, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(SIDE // stride), np.arange(SIDE // stride))
        places.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        strides.append(np.full((columns.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def yolox(path: Path, *, decoded: bool, person_class: int = 0) -> Path:
    """[1, cells, 85]: objectness is brightness; each box is its cell."""
    graph = _Graph()
    places, strides = _cells()
    boxes = np.concatenate((np.full_like(places, 0.5), np.zeros_like(places)), axis=1)
    if decoded:
        boxes = np.concatenate(((places + 0.5) * strides, np.tile(strides, 2)), axis=1)
    classes = np.zeros((len(places), _CLASSES), np.float32)
    classes[:, person_class] = 0.95
    objectness = graph.node("Sigmoid", [graph.logit()], "objectness_flat")
    column = graph.node("Unsqueeze", [objectness, graph.constant("axis", np.array([2], np.int64))], "objectness")
    parts = [graph.constant("boxes", boxes[None].astype(np.float32)), column, graph.constant("classes", classes[None])]
    graph.node("Concat", parts, "output", axis=2)
    return graph.save(
        path,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, len(places), 5 + _CLASSES])],
    )


def rt_detr(path: Path) -> Path:
    """`labels`, `boxes` and `scores` as its authors export it; the size that boxes are for is an input."""
    graph = _Graph()
    places, strides = _cells()
    corners = np.concatenate((places * strides, (places + 1) * strides), axis=1) / SIDE
    graph.node("Sigmoid", [graph.logit(255.0)], "scores")
    graph.node("Cast", ["orig_target_sizes"], "sizes", to=TensorProto.FLOAT)
    graph.node("Concat", ["sizes", "sizes"], "sides", axis=1)
    graph.node("Mul", [graph.constant("corners", corners[None].astype(np.float32)), "sides"], "boxes")
    graph.node("Identity", [graph.constant("people", np.zeros((1, len(places)), np.int64))], "labels")
    return graph.save(
        path,
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE]),
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, len(places)]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, len(places), 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(places)]),
        ],
    )


def rt_detr_logits(path: Path) -> Path:
    """`logits` and `pred_boxes` as Hugging Face exports it; the batch is of any size, as there."""
    graph = _Graph()
    places, strides = _cells()
    centred = np.concatenate(((places + 0.5) * strides, np.tile(strides, 2)), axis=1) / SIDE
    others = np.full((1, len(places), _CLASSES - 1), -20, np.float32)
    people = graph.node("Unsqueeze", [graph.logit(255.0), graph.constant("axis", np.array([2], np.int64))], "people")
    graph.node("Concat", [people, graph.constant("others", others)], "logits", axis=2)
    graph.node("Identity", [graph.constant("centred", centred[None].astype(np.float32))], "pred_boxes")
    return graph.save(
        path,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(places), _CLASSES]),
            helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, ["batch", len(places), 4]),
        ],
    )


def no_detector(path: Path) -> Path:
    """One that says how bright the picture is."""
    graph = _Graph()
    graph.node("ReduceMean", ["images"], "mean", axes=[1, 2, 3], keepdims=1)
    return graph.save(
        path,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 1, 1, 1])],
    )
