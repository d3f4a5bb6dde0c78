"""A frame on its way to a worker and back, and how long things may take."""

import asyncio
from dataclasses import dataclass, field

from crow_receiver.vision.likeness import Sketch
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker says of a frame; without an analysis, that it shows what its reference shows."""

    analysis: Analysis | None
    sketch: Sketch


@dataclass(slots=True, eq=False)
class Job:
    """A frame to be described, and where the answer goes.

    `alone` when it is to share a worker with no other frame, since one that it did share a worker with killed it, or it
    did itself.
    """

    request: VisionRequest
    answer: "asyncio.Future[Told]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    alone: bool = False
    next_look: asyncio.TimerHandle | None = None  # at whether it waits in vain

    def fail(self, error: CrowError) -> None:
        """Answers with an error, if somebody still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, told: Told) -> None:
        """Answers, if somebody still waits."""
        if not self.answer.done():
            self.answer.set_result(told)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds.

    `deadline_s` is for a frame at a worker, `grace_s` for the worker to let go of it afterwards, `silent_s` for a
    worker to say nothing at all; `no_worker_s` is how long a frame waits while no worker runs. `start_s` is for a large
    model from a cold disk. `duplicate_s` is for how long a frame that was described may stand for others that show the
    same; 0: never.
    """

    deadline_s: float = 300.0
    grace_s: float = 60.0  # encoding a picture cannot be interrupted: on a slow CPU the longest step that there is
    silent_s: float = 10.0
    no_worker_s: float = 30.0
    start_s: float = 600.0
    duplicate_s: float = 0.0
