"""What became of each number that the spool gave out. Pure: no I/O, no time.

Invariants
1. A number up to a camera's `last_seq` is in exactly one of three states: acknowledged (up to `acked_seq`), in a hole
   with its reason, or waiting. Nothing is kept per frame: what is not the first two is waiting.
2. `last_seq` and `acked_seq` never fall, and `acked_seq` is never above `last_seq`.
3. Holes of a camera are disjoint, in order, and above `acked_seq`. Neighbours with one reason are one hole, so that a
   long time without receiver is one hole, not thousands.
4. A number is counted as lost once: when it becomes part of a hole.
5. A sealed epoch is forgotten, all but how many numbers it had, when every number of it is acknowledged. The last
   epoch is the one being written.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from crow.spool.v1 import segment_pb2 as pb

FORMAT_VERSION = 1


class HoleReason(StrEnum):
    """Why numbers of a camera will not be delivered."""

    SPOOL_FULL = "spool_full"
    SPOOL_AGE = "spool_age"
    CORRUPT = "corrupt"
    REFUSED = "refused"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers from `from_seq` to `to_seq`, both inclusive, that will not be delivered."""

    camera_id: str
    from_seq: int
    to_seq: int
    reason: HoleReason
    detail: str


@dataclass(frozen=True, slots=True)
class CameraMark:
    """How far a camera has come: numbers given out, and numbers durable at the receiver or given up there.

    `last_capture_us` is the capture time of the frame that got the camera's last number, of whichever epoch, in
    microseconds since the Unix epoch; None while there was none.
    """

    camera_id: str
    last_seq: int
    acked_seq: int
    last_capture_us: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames of one camera that were given up for one reason since the spool was made."""

    camera_id: str
    reason: HoleReason
    frames: int
    last_detail: str


@dataclass(slots=True)
class _Camera:
    last_seq: int = 0
    acked_seq: int = 0
    holes: list[Hole] = field(default_factory=list)

    def waiting(self, from_seq: int, to_seq: int) -> Iterator[tuple[int, int]]:
        """The waiting numbers of a span, as spans."""
        expected, last = max(from_seq, self.acked_seq + 1), min(to_seq, self.last_seq)
        for hole in self.holes[bisect_left(self.holes, expected, key=_to_seq) :]:
            if hole.from_seq > last:
                break
            if hole.from_seq > expected:
                yield expected, hole.from_seq - 1
            expected = hole.to_seq + 1
        if expected <= last:
            yield expected, last

    def add_hole(self, hole: Hole) -> None:
        """Puts in a hole that touches no other; joins it with its neighbours of the same reason."""
        at = bisect_left(self.holes, hole.from_seq, key=_to_seq)
        first, last, begin, end = hole.from_seq, hole.to_seq, at, at
        if at < len(self.holes) and self.holes[at].from_seq == last + 1 and self.holes[at].reason is hole.reason:
            last, end = self.holes[at].to_seq, at + 1
        if at > 0 and self.holes[at - 1].to_seq == first - 1 and self.holes[at - 1].reason is hole.reason:
            first, begin = self.holes[at - 1].from_seq, at - 1
        self.holes[begin:end] = [Hole(hole.camera_id, first, last, hole.reason, hole.detail)]


class Accounts:
    """The numbers of all epochs, and what was lost of them."""

    def __init__(self) -> None:
        """No epoch yet: `start_epoch` comes first."""
        self._epochs: dict[str, dict[str, _Camera]] = {}
        self._lost: dict[tuple[str, HoleReason], Lost] = {}
        self._forgotten: dict[str, int] = {}
        self._last_captures_us: dict[str, int] = {}

    def epochs(self) -> list[str]:
        """Oldest first."""
        return list(self._epochs)

    def start_epoch(self, epoch: str) -> None:
        """From now on this is the last one."""
        assert epoch not in self._epochs, "fresh"
        self._epochs[epoch] = {}

    def drop_epoch(self, epoch: str) -> None:
        """Takes back a `start_epoch` that could not be written down."""
        del self._epochs[epoch]

    def drop_acknowledged(self) -> None:
        """Forgets sealed epochs of which nothing is left to tell."""
        for epoch in self.epochs()[:-1]:
            if all(camera.acked_seq == camera.last_seq for camera in self._epochs[epoch].values()):
                for camera_id, camera in self._epochs.pop(epoch).items():
                    self._forgotten[camera_id] = self._forgotten.get(camera_id, 0) + camera.last_seq

    def mark(self, epoch: str, camera_id: str) -> CameraMark:
        """How far a camera has come; zeros for one that has given out no number."""
        camera = self._epochs.get(epoch, {}).get(camera_id, _NOTHING)
        return CameraMark(camera_id, camera.last_seq, camera.acked_seq, self.last_capture_us(camera_id))

    def marks(self, epoch: str) -> list[CameraMark]:
        """How far each camera of an epoch has come."""
        return [self.mark(epoch, camera_id) for camera_id in self._epochs.get(epoch, {})]

    def totals(self) -> list[CameraMark]:
        """Per camera, how many numbers were given out and how many acknowledged, since the spool was made, by id."""
        sums = {
            camera_id: CameraMark(camera_id, numbers, numbers, self.last_capture_us(camera_id))
            for camera_id, numbers in self._forgotten.items()
        }
        for epoch in self._epochs:
            for mark in self.marks(epoch):
                sum_ = sums.get(mark.camera_id, _NO_MARK)
                given_out, acked = sum_.last_seq + mark.last_seq, sum_.acked_seq + mark.acked_seq
                sums[mark.camera_id] = CameraMark(mark.camera_id, given_out, acked, mark.last_capture_us)
        return [sums[camera_id] for camera_id in sorted(sums)]

    def give_out(self, epoch: str, camera_id: str, through_seq: int) -> None:
        """Numbers up to `through_seq` have been given out; a camera or an epoch that is not known is taken up."""
        camera = self._epochs.setdefault(epoch, {}).setdefault(camera_id, _Camera())
        camera.last_seq = max(camera.last_seq, through_seq)

    def last_capture_us(self, camera_id: str) -> int | None:
        """The capture time of the frame that got the camera's last number; may be asked from any thread."""
        return self._last_captures_us.get(camera_id)

    def captured(self, camera_id: str, capture_us: int) -> None:
        """The camera's last number went to a frame of this capture time."""
        self._last_captures_us[camera_id] = capture_us

    def acknowledge(self, epoch: str, camera_id: str, through_seq: int) -> bool:
        """Everything up to `through_seq`, as far as given out, is the receiver's; returns whether that is news."""
        camera = self._epochs.get(epoch, {}).get(camera_id)
        through_seq = 0 if camera is None else min(through_seq, camera.last_seq)
        if camera is None or through_seq <= camera.acked_seq:
            return False
        camera.acked_seq = through_seq
        kept = camera.holes[bisect_left(camera.holes, through_seq + 1, key=_to_seq) :]
        if kept and kept[0].from_seq <= through_seq:
            kept[0] = Hole(kept[0].camera_id, through_seq + 1, kept[0].to_seq, kept[0].reason, kept[0].detail)
        camera.holes = kept
        return True

    def give_up(self, epoch: str, hole: Hole) -> int:
        """Turns those numbers of `hole` that still wait into holes, and returns how many they were."""
        camera = self._epochs.get(epoch, {}).get(hole.camera_id)
        if camera is None:
            return 0
        spans = list(camera.waiting(hole.from_seq, hole.to_seq))
        for first, last in spans:
            camera.add_hole(Hole(hole.camera_id, first, last, hole.reason, hole.detail))
        frames = sum(last - first + 1 for first, last in spans)
        if frames:
            before = self._lost.get((hole.camera_id, hole.reason))
            total = frames + (before.frames if before else 0)
            self._lost[hole.camera_id, hole.reason] = Lost(hole.camera_id, hole.reason, total, hole.detail)
        return frames

    def is_waiting(self, epoch: str, camera_id: str, seq: int) -> bool:
        """Whether this number has been given out and is neither acknowledged nor in a hole."""
        camera = self._epochs.get(epoch, {}).get(camera_id, _NOTHING)
        if not camera.acked_seq < seq <= camera.last_seq:
            return False
        return not camera.holes or next(camera.waiting(seq, seq), None) is not None

    def waiting_spans(self, epoch: str, camera_id: str, from_seq: int, to_seq: int) -> Iterator[tuple[int, int]]:
        """The waiting numbers between two numbers, both inclusive, as spans in order."""
        return self._epochs.get(epoch, {}).get(camera_id, _NOTHING).waiting(from_seq, to_seq)

    def waiting(self, epoch: str) -> dict[str, int]:
        """How many numbers of each camera wait; cameras without any are left out."""
        counts = {
            camera_id: camera.last_seq
            - camera.acked_seq
            - sum(hole.to_seq - hole.from_seq + 1 for hole in camera.holes)
            for camera_id, camera in self._epochs.get(epoch, {}).items()
        }
        return {camera_id: count for camera_id, count in counts.items() if count}

    def holes(self, epoch: str, camera_id: str, from_seq: int, to_seq: int) -> list[Hole]:
        """The holes of a camera that lie between two numbers, both inclusive, in order."""
        holes = self._epochs.get(epoch, {}).get(camera_id, _NOTHING).holes
        found = []
        for hole in holes[bisect_left(holes, from_seq, key=_to_seq) :]:
            if hole.from_seq > to_seq:
                break
            found.append(hole)
        return found

    def lost(self) -> list[Lost]:
        """What was given up since the spool was made, in order of camera and reason."""
        return [self._lost[key] for key in sorted(self._lost)]

    def snapshot(self) -> pb.SegmentStart:
        """All of it, as it is written down."""
        epochs = [
            pb.EpochState(
                marks=marks_message(epoch, self.marks(epoch)),
                holes=[hole_message(hole) for camera in cameras.values() for hole in camera.holes],
            )
            for epoch, cameras in self._epochs.items()
        ]
        lost = [
            pb.LostFrames(
                camera_id=lost.camera_id,
                reason=_REASON_NUMBERS[lost.reason],
                frames=lost.frames,
                last_detail=lost.last_detail,
            )
            for lost in self._lost.values()
        ]
        forgotten = [
            pb.ForgottenNumbers(
                camera_id=camera_id, numbers=numbers, last_capture_us=self._last_captures_us.get(camera_id)
            )
            for camera_id, numbers in self._forgotten.items()
        ]
        return pb.SegmentStart(format_version=FORMAT_VERSION, epochs=epochs, lost=lost, forgotten=forgotten)

    def restore(self, start: pb.SegmentStart) -> None:
        """Becomes what `snapshot` had said."""
        self._epochs = {}
        self._last_captures_us = {}
        for state in start.epochs:
            epoch = self._epochs[state.marks.epoch] = {}
            for mark in state.marks.cameras:
                epoch[mark.camera_id] = _Camera(mark.last_seq, min(mark.acked_seq, mark.last_seq))
                if mark.HasField("last_capture_us"):
                    self.captured(mark.camera_id, mark.last_capture_us)
            for message in state.holes:
                if message.camera_id in epoch:
                    epoch[message.camera_id].add_hole(hole_of(message))
        self._forgotten = {forgotten.camera_id: forgotten.numbers for forgotten in start.forgotten}
        for forgotten in start.forgotten:
            if forgotten.HasField("last_capture_us"):
                self.captured(forgotten.camera_id, forgotten.last_capture_us)
        self._lost = {}
        for lost in start.lost:
            reason = _REASONS.get(lost.reason, HoleReason.CORRUPT)
            self._lost[lost.camera_id, reason] = Lost(lost.camera_id, reason, lost.frames, lost.last_detail)


def marks_message(epoch: str, marks: list[CameraMark]) -> pb.Marks:
    """Marks as they are written down."""
    cameras = [
        pb.CameraMark(
            camera_id=mark.camera_id,
            last_seq=mark.last_seq,
            acked_seq=mark.acked_seq,
            last_capture_us=mark.last_capture_us,
        )
        for mark in marks
    ]
    return pb.Marks(epoch=epoch, cameras=cameras)


def hole_message(hole: Hole) -> pb.Hole:
    """A hole as it is written down."""
    return pb.Hole(
        camera_id=hole.camera_id,
        from_seq=hole.from_seq,
        to_seq=hole.to_seq,
        reason=_REASON_NUMBERS[hole.reason],
        detail=hole.detail,
    )


def hole_of(message: pb.Hole) -> Hole:
    """A hole as it was written down; a reason that this version does not know counts as damage."""
    reason = _REASONS.get(message.reason, HoleReason.CORRUPT)
    return Hole(message.camera_id, message.from_seq, message.to_seq, reason, message.detail)


_NOTHING = _Camera()
_NO_MARK = CameraMark("", 0, 0)
_REASON_NUMBERS = {
    HoleReason.SPOOL_FULL: pb.HOLE_REASON_SPOOL_FULL,
    HoleReason.SPOOL_AGE: pb.HOLE_REASON_SPOOL_AGE,
    HoleReason.CORRUPT: pb.HOLE_REASON_CORRUPT,
    HoleReason.REFUSED: pb.HOLE_REASON_REFUSED,
    HoleReason.ERASED: pb.HOLE_REASON_ERASED,
}
_REASONS = {number: reason for reason, number in _REASON_NUMBERS.items()}


def _to_seq(hole: Hole) -> int:
    return hole.to_seq
