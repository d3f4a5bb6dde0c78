"""What a worker is told first, on its way to it."""

from collections.abc import Iterable
from pathlib import Path

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.detect.config import DetectorConfig, Provider


def configure_order(
    log_level: str, memory_bytes: int, detector: DetectorConfig | None, recordings: Iterable[Path] = ()
) -> pb.Order:
    """Tells a worker what holds for all its cameras.

    The kernel is to refuse it more than `memory_bytes`, and other files than these recordings.
    """
    told = None
    if detector is not None:
        told = pb.Detector(
            model=detector.model,
            sha256=detector.sha256,
            provider=detector.provider,
            confidence=detector.confidence,
        )
    paths = [str(path.absolute()) for path in recordings]
    configure = pb.Configure(log_level=log_level, memory_bytes=memory_bytes, detector=told, recordings=paths)
    return pb.Order(configure=configure)


def detector_from_wire(order: pb.Configure) -> DetectorConfig | None:
    """The detector's settings; None where there is none. Raises ValueError for a provider that is none."""
    if not order.HasField("detector"):
        return None
    told = order.detector
    return DetectorConfig(told.model, told.sha256, Provider(told.provider), told.confidence)
