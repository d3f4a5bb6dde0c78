"""Which frame goes to which worker next.

Invariants
1. A frame that is to be alone is begun at a worker that has none, and no other is begun beside it.
2. While such a frame waits, one worker gets no other frames, so that its turn comes; the others go on.
3. Of the workers that are open, the one with the fewest frames gets the next.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol, TypeVar

from crow_receiver.vision.supervisor.job import Job


class Place(Protocol):
    """A worker, as far as placing needs to know it."""

    @property
    def frames(self) -> int:
        """How many frames are under way."""
        ...

    @property
    def free(self) -> int:
        """How many more may be."""
        ...

    @property
    def is_kept_for_one(self) -> bool:
        """Whether a frame is under way that is to have the worker for itself."""
        ...


AnyPlace = TypeVar("AnyPlace", bound=Place)


def place_next(alone: deque[Job], others: deque[Job], workers: Iterable[AnyPlace]) -> tuple[Job, AnyPlace] | None:
    """Takes the next frame from its line and says where it goes; None while none can go anywhere."""
    open_to_all = sorted((worker for worker in workers if not worker.is_kept_for_one), key=lambda worker: worker.frames)
    if alone and open_to_all:
        if not open_to_all[0].frames:
            return alone.popleft(), open_to_all[0]
        del open_to_all[0]
    with_room = [worker for worker in open_to_all if worker.free > 0]
    return (others.popleft(), with_room[0]) if others and with_room else None
