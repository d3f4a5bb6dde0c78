"""Which cameras share a worker. Pure: no clock, no I/O.

1. Cameras whose own keyframes are passed on without libav share workers with each other alone: what reads them is
   memory-safe, and no crash of libav's shall reach them. (One that turns out to need libav after all stays.)
2. A worker reads at most `cameras_per_worker` cameras; of those that are passed on, `PASSED_ON_TIMES` as many.
3. Nothing moves a camera that runs. A new one joins the first worker of its kind that has room and has run for long
   enough since a loss, else it gets a worker of its own. A recording joins none that has started: what files it may
   open is settled then.
4. After a loss the cameras of the worker are split: the one that is known to be the cause from the others, else in two
   halves. So one that keeps killing its worker soon sits alone and hurts none but itself. A worker that was killed from
   outside (by the kernel for want of memory, by an operator) says nothing of its cameras, and is replaced as it was.
5. The first loss costs no wait. After each further one, until a worker has run for `SETTLED_S`, the wait doubles.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from crow_daemon.capture.choice import StreamMemory, choose
from crow_daemon.registry.camera import Camera, RtspAddress

PASSED_ON_TIMES = 4
SETTLED_S = 60.0
LONGEST_WAIT_S = 60.0


class LossReason(StrEnum):
    """Why a worker had to be replaced; also the word for the samples that this costs."""

    CRASHED = "worker_crashed"
    HUNG = "worker_hung"
    MEMORY = "worker_memory"  # it took more than it may


@dataclass(frozen=True, slots=True)
class Loss:
    """The unplanned end of a worker; `detail` is the rest of a sentence about it.

    `culprit` is the camera that caused it, where that is known; `from_outside` tells that no camera did.
    """

    reason: LossReason
    detail: str
    culprit: str | None = None
    from_outside: bool = False


@dataclass(slots=True)
class Group:
    """The cameras of one worker, by id, and what its like have been through."""

    passes_on: bool
    cameras: set[str] = field(default_factory=set)
    losses: Counter[LossReason] = field(default_factory=Counter)  # of the workers that these cameras were in before
    strikes: int = 0  # losses in a row

    def has_room(self, cameras_per_worker: int) -> bool:
        """Whether one more camera may join."""
        room = cameras_per_worker * (PASSED_ON_TIMES if self.passes_on else 1)
        return not self.strikes and len(self.cameras) < room

    @property
    def wait_s(self) -> float:
        """How long to wait before a worker is started for it."""
        return 0.0 if self.strikes < 2 else min(LONGEST_WAIT_S, 2.0 ** (self.strikes - 2))


def passes_on(camera: Camera) -> bool:
    """Whether the camera's keyframes are passed on without libav, by all that is known before it is read."""
    if not isinstance(camera.source, RtspAddress):
        return False
    choice = choose(camera, camera.source, StreamMemory(camera))
    return (choice.reader, choice.mode, choice.substream) == ("direct", "keyframe", False)


def after(loss: Loss, group: Group, staying: Iterable[str]) -> list[Group]:
    """The groups that take the place of a lost worker's, for those of its cameras that are still wanted."""
    cameras = sorted(staying)
    if loss.from_outside or len(cameras) < 2:
        parts = [cameras]
    elif loss.culprit in cameras:
        parts = [[loss.culprit], [camera for camera in cameras if camera != loss.culprit]]
    else:
        parts = [cameras[: len(cameras) // 2], cameras[len(cameras) // 2 :]]
    losses = group.losses + Counter([loss.reason])
    return [Group(group.passes_on, set(part), Counter(losses), group.strikes + 1) for part in parts if part]
