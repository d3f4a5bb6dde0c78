"""A detector that is loaded when the first sample asks for it. Thread-safe.

Loading takes a second, and a process whose cameras need no detector never pays it. What fails to load is tried again
after `RETRY_S`: a GPU may have been busy.
"""

import threading
import time
from collections.abc import Callable

from crow_daemon.capture.source import Bgr
from crow_daemon.detect.config import DetectorConfig
from crow_daemon.detect.port import DETECTOR_FAILED, Person, PersonDetector
from crow_shared.errors import CrowError

RETRY_S = 300.0


class OnDemandDetector:
    """The detector of one process."""

    def __init__(self, config: DetectorConfig, now_s: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read yet."""
        self._config = config
        self._now_s = now_s
        self._lock = threading.Lock()
        self._detector: PersonDetector | None = None
        self._failure: CrowError | None = None
        self._failed_s = 0.0

    @property
    def confidence(self) -> float:
        """From which on somebody counts as seen."""
        return self._config.confidence

    def find(self, bgr: Bgr) -> tuple[Person, ...]:
        """Everybody in the picture, as `PersonDetector` says."""
        return self._loaded().find(bgr)

    def _loaded(self) -> PersonDetector:
        with self._lock:
            if self._failure is not None and self._now_s() - self._failed_s < RETRY_S:
                raise self._failure
            if self._detector is None:
                from crow_daemon.detect.onnx_detector import OnnxDetector  # noqa: PLC0415 — loads onnxruntime

                try:
                    self._detector = OnnxDetector(self._config)
                except CrowError as error:
                    self._failure = CrowError(error.kind, DETECTOR_FAILED, error.message)
                    self._failed_s = self._now_s()
                    raise self._failure from None
                self._failure = None
            return self._detector
