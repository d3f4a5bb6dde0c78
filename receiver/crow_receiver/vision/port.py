"""The two sides of frame analysis: what the receiver asks of it, and what an engine implements in the worker."""

from dataclasses import dataclass
from typing import Protocol

from crow_receiver.vision.brief import NO_BRIEF, Brief
from crow_receiver.vision.likeness import Sketch
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.schema import Analysis, Scene
from crow_receiver.vision.usage import Usage
from crow_shared.errors import CrowError
from crow_shared.frame import Encoding
from crow_shared.zones import Zone

# The codes of retryable errors that may be the frame's own fault; other troubles pass.
FRAME_AT_FAULT = frozenset({"worker_died", "frame_deadline", "endpoint_failed"})


@dataclass(frozen=True, slots=True)
class Previous:
    """What was said of the camera's frame before, so many seconds earlier."""

    description: str
    seconds_before: float


@dataclass(frozen=True, slots=True)
class FrameName:
    """A frame by its session and its index in it."""

    session_id: str
    index: int


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """One frame to describe.

    `camera` (organization/site/camera id, and a further word for its late frames) tells an engine that keeps state
    between frames whose state to use; `camera_name` is for people. `zones` are the camera's own; an engine takes
    `crow_receiver.vision.zones.areas` of them. `coded` has been accepted by `crow_receiver.ingest` but comes from
    outside: only the worker decodes it. `engines` are the camera's own order of them; empty: as the settings say.
    `brief` is what the operator says of the camera, `previous` what an engine said of the frame before. With a `frame`
    it may be answered by what was said of an earlier one that shows the same, else not; `reference` is that one's
    sketch, which a supervisor adds.
    """

    camera: str
    camera_name: str
    capture_us: int
    zones: tuple[Zone, ...]
    encoding: Encoding
    coded: bytes
    engines: tuple[str, ...] = ()
    brief: Brief = NO_BRIEF
    previous: Previous | None = None
    frame: FrameName | None = None
    reference: Sketch = b""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a frame that was begun under `key`; `model` where it is not the engine's one and only."""

    key: int
    scene: Scene | CrowError
    usage: Usage
    model: str | None = None


class Engine(Protocol):
    """Runs inside the worker process, which calls it from one thread alone.

    `slots` is how many frames it works on at once, `least_side` the width and height below which a picture is too small
    for it. `trouble` says why it cannot serve at present, None while it can; any thread may look.
    """

    name: str
    model: str | None
    model_sha256: str | None
    quantization: str | None
    prompt_version: str | None
    limits: tuple[str, ...]
    slots: int
    least_side: tuple[int, int]

    @property
    def trouble(self) -> str | None:
        """Why it cannot serve at present."""
        ...

    def begin(self, key: int, request: VisionRequest, picture: Pixels) -> None:
        """Takes a frame in; fewer than `slots` are under way. Raises CrowError, for this frame alone."""
        ...

    def step(self, wait_s: float) -> list[Finished]:
        """Goes on with all frames that were begun by one small step, or waits for one of them at most so long.

        Returns those that ended.
        """
        ...

    def abort(self, key: int) -> None:
        """Forgets a frame; no `Finished` comes for it."""
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

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        """Whether a frame of a camera that prefers these engines would be begun at once."""
        ...

    async def describe(self, request: VisionRequest) -> Analysis:
        """Describes one frame.

        Raises CrowError; a retryable one (worker died, deadline passed) may succeed on another try, the others not.
        """
        ...
