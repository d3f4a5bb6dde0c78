"""What a spool's files say: everything is derived from them, by reading all headers in order.

Reading changes nothing, so this also works beside a running daemon. The steps after a crash are in docs/SPOOL.md.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from crow.spool.v1 import segment_pb2 as pb
from crow_daemon.spool.accounts import FORMAT_VERSION, Accounts, Hole, HoleReason, hole_of
from crow_daemon.spool.format import Damage, Record, scan, segment_numbers, segment_path
from crow_daemon.spool.segment import Segment
from crow_shared.errors import CrowError, Kind

_ATTEMPTS = 5  # a running daemon unlinks segments while we read


@dataclass(slots=True)
class Recovered:
    """The state of a spool."""

    accounts: Accounts = field(default_factory=Accounts)
    segments: dict[int, Segment] = field(default_factory=dict)  # by number, oldest first
    empty: list[int] = field(default_factory=list)  # files that a crash left before anything was written
    damages: list[tuple[int, Damage]] = field(default_factory=list)  # by segment
    doubles: list[tuple[int, str, int]] = field(default_factory=list)  # segment, camera, a number that came again
    unexplained: list[tuple[Hole, int]] = field(default_factory=list)  # how many numbers in it were found nowhere
    in_doubt: bool = False  # the newest segment is damaged: which numbers were given out last is not certain


def recover(directory: Path) -> Recovered:
    """Reads the spool in `directory`; without files it is an empty one.

    Raises CrowError(UNAVAILABLE) when files cannot be read, CrowError(UNSUPPORTED) when a newer version wrote them.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _recover(directory)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS - 1:
                raise CrowError(
                    Kind.UNAVAILABLE, "spool_unavailable", f"cannot read the spool {directory}: {error.strerror}"
                ) from error
    raise AssertionError("unreachable")


def _recover(directory: Path) -> Recovered:
    fold = _Fold()
    for number in segment_numbers(directory):
        descriptor = os.open(segment_path(directory, number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size:
                fold.begin(number)
                for found in scan(descriptor, number, size):
                    fold.take(found)
                if not fold.segment.end:
                    os.pread(descriptor, 1, 0)  # nothing valid: because the disk does not read, or is it damage?
                fold.segment.disk_bytes = size
            else:
                fold.result.empty.append(number)
        finally:
            os.close(descriptor)
    return fold.finished()


class _Fold:
    """Goes over all records in order."""

    def __init__(self) -> None:
        self.result = Recovered()
        self.segment = Segment(0)
        self._before: Segment | None = None
        self._damaged = False  # since the last readable start
        self._seen: dict[tuple[str, str], int] = {}
        self._skipped: list[tuple[str, Hole]] = []

    def begin(self, number: int) -> None:
        self._before = self.segment if self.segment.number else None
        self.segment = self.result.segments[number] = Segment(number)
        self.result.in_doubt = False

    def take(self, found: Record | Damage) -> None:
        if isinstance(found, Damage):
            self._damaged = self.result.in_doubt = True
            self.result.damages.append((self.segment.number, found))
            return
        self.segment.end = found.end
        match found.header.WhichOneof("record"):
            case "segment_start":
                self._start(found.header.segment_start)
            case "frame":
                self._frame(found.header.frame)
            case "marks":
                for mark in found.header.marks.cameras:
                    self._passed(found.header.marks.epoch, mark.camera_id, mark.last_seq)
                    self.result.accounts.acknowledge(found.header.marks.epoch, mark.camera_id, mark.acked_seq)
                    if mark.HasField("last_capture_us"):
                        self.result.accounts.captured(mark.camera_id, mark.last_capture_us)
            case "given_up":
                self.result.accounts.give_up(found.header.given_up.epoch, hole_of(found.header.given_up.hole))

    def finished(self) -> Recovered:
        """Numbers that are nowhere become holes, unless later records said what became of them."""
        for epoch, hole in self._skipped:
            if frames := self.result.accounts.give_up(epoch, hole):
                self.result.unexplained.append((hole, frames))
        return self.result

    def _start(self, start: pb.SegmentStart) -> None:
        if start.format_version != FORMAT_VERSION:
            version = f"version {start.format_version} of the format; this crow-daemon reads {FORMAT_VERSION}"
            raise CrowError(Kind.UNSUPPORTED, "spool_unsupported", f"segment {self.segment.number} has {version}")
        for state in start.epochs:
            for mark in state.marks.cameras:
                self._passed(state.marks.epoch, mark.camera_id, mark.last_seq)
        # A camera without a mark has no number yet, even if a frame of it lies behind a failed write.
        self._seen = {
            (state.marks.epoch, mark.camera_id): mark.last_seq for state in start.epochs for mark in state.marks.cameras
        }
        if self._before is not None:
            for camera_id in self._before.spans:
                self._before.clip(camera_id, self._seen.get((self._before.epoch, camera_id), 0))
        self.result.accounts.restore(start)
        self.segment.epoch = self.result.accounts.epochs()[-1] if start.epochs else ""
        self._damaged = False

    def _frame(self, spooled: pb.SpooledFrame) -> None:
        epoch, camera_id, seq = spooled.epoch, spooled.frame.camera_id, spooled.frame.seq
        if seq <= self._seen.get((epoch, camera_id), 0):
            self.result.doubles.append((self.segment.number, camera_id, seq))
            return
        self._passed(epoch, camera_id, seq - 1)
        self._seen[epoch, camera_id] = seq
        self.result.accounts.give_out(epoch, camera_id, seq)
        self.result.accounts.captured(camera_id, spooled.frame.capture_time_us)
        self.segment.add(spooled)

    def _passed(self, epoch: str, camera_id: str, last_seq: int) -> None:
        """Numbers up to `last_seq` were given out; those not seen are nowhere so far."""
        first = self._seen.get((epoch, camera_id), 0) + 1
        if first > last_seq:
            return
        reason = HoleReason.CORRUPT if self._damaged else HoleReason.SPOOL_FULL
        detail = "its record is damaged" if self._damaged else "its segment was let go"
        self._skipped.append((epoch, Hole(camera_id, first, last_seq, reason, detail)))
        self._seen[epoch, camera_id] = last_seq
        self.result.accounts.give_out(epoch, camera_id, last_seq)
