"""A person detector in an ONNX file, run by onnxruntime, which is loaded only with the first one.

Invariants
1. The file is what its sha256 says, where one is given; it is read once, so what was checked is what runs.
2. What a model is for is told by its outputs (see `outputs`), and tried once before it is used.
3. One thread a look: cameras share few cores, and each has a thread already.
4. onnxruntime's exceptions end here.
"""

import hashlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import structlog

from crow_daemon.capture.source import Bgr
from crow_daemon.detect import outputs
from crow_daemon.detect.config import DetectorConfig, Provider
from crow_daemon.detect.outputs import Found, Style, Values
from crow_daemon.detect.port import DETECTOR_FAILED, Person
from crow_daemon.privacy.region import Region
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

_PROVIDERS = {
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.CPU: "CPUExecutionProvider",
}
_FALLS_BACK_TO = {
    Provider.AUTO: (Provider.CUDA, Provider.CPU),
    Provider.TENSORRT: (Provider.TENSORRT, Provider.CUDA, Provider.CPU),
    Provider.CUDA: (Provider.CUDA, Provider.CPU),
    Provider.CPU: (Provider.CPU,),
}
_DEFAULT_SIDE = 640  # pixels, of a model that takes any size
_SIDES = (32, 4096)
_PADDING = 114  # grey level beside a picture that has another shape than the input; YOLOX was trained with it
_HIDDEN_FROM = 0.5  # of the confidence: less sure finds are given out to be hidden


class OnnxDetector:
    """One model. Used by the threads of all cameras of a process."""

    def __init__(self, config: DetectorConfig) -> None:
        """Loads and tries the model.

        Raises CrowError(NOT_FOUND), (UNAVAILABLE) without onnxruntime, (CORRUPT) for another sha256, (UNSUPPORTED) for
        a file that is no model or none of people.
        """
        self.confidence = config.confidence
        onnxruntime = _onnxruntime()
        self._failures = _failures(onnxruntime)
        self._session = _session(onnxruntime, _checked(config), config)
        self.provider = _provider(self._session, config.provider)
        style = outputs.style_of({output.name: output.shape for output in self._session.get_outputs()})
        pictures = [value for value in self._session.get_inputs() if len(value.shape) == 4]
        if style is None or len(pictures) != 1 or pictures[0].shape[1] != 3:
            raise _unusable(config, f"its outputs are {_told(self._session)}, not those of YOLOX or RT-DETR")
        self._style = style
        self._input = pictures[0].name
        self._others = [value.name for value in self._session.get_inputs() if value.name != self._input]
        self._height, self._width = (_side(side) for side in pictures[0].shape[2:])
        self._decoded = False
        self._try(config)

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        """Everybody in the picture, as `PersonDetector` says."""
        picture, share = self._prepared(bgr)
        boxes, scores = self._people(self._run(picture), self.confidence * _HIDDEN_FROM)
        shares = boxes / share
        return tuple(
            Person(Region(*(min(max(float(side), 0.0), 1.0) for side in box)), float(score))
            for box, score in zip(shares, scores, strict=True)
            if np.isfinite(box).all()
        )

    def _try(self, config: DetectorConfig) -> None:
        """One look at nothing shows whether the outputs are as their names say."""
        found = self._run(np.zeros((1, 3, self._height, self._width), np.float32))
        if self._style is Style.YOLOX:
            (output,) = found.values()
            if output.ndim != 3 or output.shape[1] != outputs.cells(self._width, self._height):
                raise _unusable(
                    config, f"its output is {output.shape}, not YOLOX's for {self._width}x{self._height} pixels"
                )
            self._decoded = outputs.are_pixels(output, self._width)
        self._people(found, self.confidence)

    def _prepared(self, bgr: Bgr) -> tuple[Values, Values]:
        """The input [1, 3, height, width], and what to divide found boxes by to get shares of the picture."""
        height, width = bgr.shape[:2]
        if self._style is Style.YOLOX:  # keeps its shape, upper left; BGR, 0 to 255
            scale = min(self._width / width, self._height / height)
            across, down = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
            padded = np.full((self._height, self._width, 3), _PADDING, np.uint8)
            padded[:down, :across] = cv2.resize(bgr, (across, down), interpolation=cv2.INTER_LINEAR)
            return _planes(padded, 1.0), np.array((across, down, across, down), np.float32)
        stretched = cv2.resize(bgr, (self._width, self._height), interpolation=cv2.INTER_LINEAR)
        rgb = cv2.cvtColor(stretched, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        sides = (self._width, self._height) * 2 if self._style is Style.RT_DETR_BOXES else (1, 1, 1, 1)
        return _planes(rgb, 1 / 255), np.array(sides, np.float32)

    def _run(self, picture: Values) -> dict[str, Values]:
        size = np.array([[self._width, self._height]], np.int64)
        try:
            found = self._session.run(None, {self._input: picture} | dict.fromkeys(self._others, size))
        except self._failures as error:
            raise CrowError(
                Kind.INTERNAL, DETECTOR_FAILED, f"the person detector failed ({type(error).__name__})"
            ) from None
        return dict(zip((output.name for output in self._session.get_outputs()), found, strict=True))

    def _people(self, found: dict[str, Any], least: float) -> Found:
        match self._style:
            case Style.YOLOX:
                (output,) = found.values()
                return outputs.yolox(output, self._width, self._height, decoded=self._decoded, least=least)
            case Style.RT_DETR_BOXES:
                return outputs.rt_detr_boxes(found["labels"], found["boxes"], found["scores"], least)
            case Style.RT_DETR_LOGITS:
                return outputs.rt_detr_logits(found["logits"], found["pred_boxes"], least)


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime  # noqa: PLC0415 — 40 MB of memory that a daemon without a detector does without
    except ImportError:
        raise CrowError(
            Kind.UNAVAILABLE,
            "detector_unavailable",
            "onnxruntime is not installed: pip install 'crow-daemon[detector]'",
        ) from None
    # It reports at length what a provider lacks; what an operator needs is that it was not had: `_provider` says it.
    onnxruntime.set_default_logger_severity(4)
    runtime: ModuleType = onnxruntime
    return runtime


def _failures(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """What onnxruntime raises: a dozen classes that have no base class of their own."""
    native = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = (value for value in native if isinstance(value, type) and issubclass(value, Exception))
    return (*own, RuntimeError, ValueError)


def _checked(config: DetectorConfig) -> bytes:
    try:
        model = Path(config.model).read_bytes()
    except OSError as error:
        raise CrowError(
            Kind.NOT_FOUND, "detector_missing", f"cannot read the detector {config.model}: {error.strerror}"
        ) from None
    found = hashlib.sha256(model).hexdigest()
    if config.sha256 and found != config.sha256.lower():
        raise CrowError(
            Kind.CORRUPT, "detector_changed", f"{config.model} has sha256 {found}, not the one in the settings"
        )
    return model


def _session(onnxruntime: ModuleType, model: bytes, config: DetectorConfig) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    available = onnxruntime.get_available_providers()
    wanted = [_PROVIDERS[provider] for provider in _FALLS_BACK_TO[config.provider]]
    try:
        return onnxruntime.InferenceSession(model, options, [name for name in wanted if name in available])
    except _failures(onnxruntime) as error:
        raise _unusable(config, f"onnxruntime does not load it ({type(error).__name__})") from None


def _provider(session: Any, wanted: Provider) -> Provider:
    """What it really runs on: the list of available providers names some whose libraries are not there."""
    names = session.get_providers()
    runs_on = next(provider for provider, name in _PROVIDERS.items() if name in names)
    if wanted is not Provider.AUTO and runs_on is not wanted:
        log.warning("person detector does not run on what was asked for", asked=wanted, runs_on=runs_on)
    else:
        log.info("person detector is ready", runs_on=runs_on)
    return runs_on


def _side(declared: object) -> int:
    if not isinstance(declared, int):
        return _DEFAULT_SIDE
    return min(max(declared, _SIDES[0]), _SIDES[1])


def _planes(pixels: Bgr, scale: float) -> Values:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) * np.float32(scale)


def _told(session: Any) -> str:
    return ", ".join(f"{output.name} {output.shape}" for output in session.get_outputs())


def _unusable(config: DetectorConfig, why: str) -> CrowError:
    return CrowError(Kind.UNSUPPORTED, "detector_unusable", f"{config.model} is no person detector for us: {why}")
