"""Sets right what `check` finds, while no daemon runs.

1. Opening the spool sets damaged bytes aside and turns numbers that are nowhere into holes. Where the newest segment is
   damaged it begins a fresh epoch.
2. Each waiting picture is read; a damaged one, or one that the disk does not read, is set aside and becomes a hole.
3. A segment is begun whose start tells all this, durably.
4. Segments that hold damaged bytes are written anew without them and take the old one's place in one step.

A crash between the steps leaves the damage in sight; repairing again ends it. Nothing that is intact is ever left out.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.reading import READ_ATTEMPTS
from crow_daemon.spool.recovery import recover
from crow_daemon.spool.spool import START, Spool
from crow_shared.errors import CrowError, Kind

_GROUP_FRAMES = 64
UNBOUNDED = SpoolLimits(1 << 62)  # a repair lets go of nothing


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done. `given_up_frames` are beyond use; `moved_frames` of each camera wait under a fresh epoch now."""

    given_up_frames: int
    rewritten_segments: int
    moved_frames: Mapping[str, int]


def repair(directory: Path, *, new_epoch: bool = False) -> Repaired:
    """Repairs the spool; with `new_epoch`, all that waits gets new numbers under a fresh epoch.

    Raises CrowError(NOT_FOUND) without a spool, CrowError(CONFLICT) when a daemon runs, CrowError(UNAVAILABLE) when the
    disk refuses.
    """
    if not directory.is_dir():
        raise CrowError(Kind.NOT_FOUND, "no_spool", f"there is no spool in {directory}")
    nowhere = sum(frames for _, frames in recover(directory).unexplained)
    spool = Spool(directory, UNBOUNDED)
    try:
        lost_before = sum(lost.frames for lost in spool.lost())
        for epoch in spool.epochs():
            _read_all(spool, epoch)
        damaged = sum(lost.frames for lost in spool.lost()) - lost_before
        rewritten = spool.mend()
        moved = _renumber(spool) if new_epoch else {}
    finally:
        spool.close()
    return Repaired(nowhere + damaged, rewritten, moved)


def _read_all(spool: Spool, epoch: str) -> None:
    after, failures, left = START, 0, -1
    while True:
        try:
            frames = spool.read(epoch, after, _GROUP_FRAMES)
        except CrowError:
            before, left = left, sum(spool.waiting(epoch).values())
            failures = failures + 1 if left == before else 1
            if failures == READ_ATTEMPTS:  # a picture would be given up by now
                raise
            continue
        if not frames:
            return
        after = frames[-1].position


def _renumber(spool: Spool) -> Mapping[str, int]:
    """A crash in between leaves some frames under both epochs: they may come twice, none is lost."""
    old, fresh = spool.epochs(), spool.start_epoch()
    moved = Counter[str]()
    for epoch in old:
        while epoch != fresh and (frames := spool.read(epoch, START, _GROUP_FRAMES)):
            spool.append([spooled.frame for spooled in frames])
            spool.release(epoch, {spooled.frame.camera_id: spooled.frame.seq for spooled in frames})
            moved.update(spooled.frame.camera_id for spooled in frames)
        if epoch != fresh:
            spool.release(epoch, {mark.camera_id: mark.last_seq for mark in spool.marks(epoch)})
    return moved
