"""The two sides of frame analysis: what the receiver asks of it, and what an engine implements in the worker."""

from dataclasses import dataclass
from typing import Protocol

from crow_receiver.vision.schema import MAX_SHORT_TEXT_CHARS, Analysis, Scene
from crow_shared.errors import CrowError, Kind

MAX_ZONES = 32


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """One frame to describe.

    `camera` (organization/site/camera id, and a further word for its late frames) tells an engine that keeps state
    between frames whose state to use; `camera_name` is for people. `zones` are the names an answer may use, from left
    to right in equal vertical parts of the picture. `jpeg` has been accepted by `receiver.ingest` but comes from
    outside: only the worker decodes it.
    Raises CrowError(INVALID) for zones that no answer could name.
    """

    camera: str
    camera_name: str
    capture_us: int
    zones: tuple[str, ...]
    jpeg: bytes

    def __post_init__(self) -> None:
        """Checks the zones."""
        if len(self.zones) > MAX_ZONES or not all(0 < len(zone) <= MAX_SHORT_TEXT_CHARS for zone in self.zones):
            raise CrowError(
                Kind.INVALID,
                "bad_zones",
                f"a camera has at most {MAX_ZONES} zones with names of 1 to {MAX_SHORT_TEXT_CHARS} characters",
            )


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
