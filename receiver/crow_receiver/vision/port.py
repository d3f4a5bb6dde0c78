"""The two sides of frame analysis: what the receiver asks of it, and what an engine implements in the worker."""

from dataclasses import dataclass
from typing import Protocol

from crow_receiver.vision.schema import Analysis, Scene
from crow_shared.errors import CrowError
from crow_shared.frame import Encoding
from crow_shared.zones import Zone


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """One frame to describe.

    `camera` (organization/site/camera id, and a further word for its late frames) tells an engine that keeps state
    between frames whose state to use; `camera_name` is for people. `zones` are the camera's own; an engine takes
    `crow_receiver.vision.zones.areas` of them. `coded` has been accepted by `crow_receiver.ingest` but comes from
    outside: only the worker decodes it.
    """

    camera: str
    camera_name: str
    capture_us: int
    zones: tuple[Zone, ...]
    encoding: Encoding
    coded: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What a frame took.

    Tokens of the prompt (instructions and question), of the picture and of the answer; of the answer's those that were
    guessed beforehand, and how many of these were right. Times are the frame's share of what it did together with
    others.
    """

    prompt_tokens: int = 0
    image_tokens: int = 0
    answer_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    encode_ms: float = 0
    prefill_ms: float = 0
    decode_ms: float = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a frame that was begun under `key`."""

    key: int
    scene: Scene | CrowError
    usage: Usage


class Engine(Protocol):
    """Runs inside the worker process, one call at a time."""

    name: str
    model: str | None
    model_sha256: str | None
    prompt_version: str | None
    limits: tuple[str, ...]

    def describe(self, request: VisionRequest) -> Scene:
        """What the frame shows.

        Raises CrowError(CORRUPT) for a picture that cannot be decoded and CrowError(INTERNAL) when the engine gave an
        answer that is not of the schema.
        """
        ...


class Vision(Protocol):
    """What the receiver sees: frames in, analyses out, whatever runs them."""

    @property
    def slots(self) -> int:
        """How many frames may be under way at once."""
        ...

    @property
    def engine_name(self) -> str:
        """The engine in use, for people and metrics."""
        ...

    async def describe(self, request: VisionRequest) -> Analysis:
        """Describes one frame.

        Raises CrowError; a retryable one (worker died, deadline passed) may succeed on another try, the others not.
        """
        ...
