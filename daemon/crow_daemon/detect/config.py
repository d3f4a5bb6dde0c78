"""What a detector is made from."""

from dataclasses import dataclass
from enum import StrEnum


class Provider(StrEnum):
    """What the detector computes on. Where the wish cannot be met, the next one that can is taken, and that is said."""

    AUTO = "auto"  # CUDA where it is, else the CPU
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """`model` is the path of an ONNX file, `sha256` what its bytes have to come to, empty for anything."""

    model: str
    sha256: str = ""
    provider: Provider = Provider.AUTO
    confidence: float = 0.4  # from which on somebody counts as seen
