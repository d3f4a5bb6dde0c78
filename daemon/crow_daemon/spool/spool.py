"""The spool: frames on disk from the moment they are promised until the receiver has them on its own disk.

An append-only log of segment files without an index; docs/SPOOL.md has the layout, the steps of each operation and what
a crash between them leaves.

Invariants
1. A frame that `append` returned is durable, its number and its picture.
2. Numbers of a camera rise by one within an epoch, across restarts. A number is given out once. Where damage leaves in
   doubt which was the last, a fresh epoch begins.
3. The files take at most `max_bytes`, give or take one group of frames, and leave `min_free_bytes` of the file system.
4. A frame that was promised ends in one of two ways. Released: the receiver has it. Given up: it is in a hole with its
   reason, and counted once. The uplink reports holes: no number just vanishes.
5. Everything is derived from the files when the spool opens. Losing what was written since the last `append` loses no
   frame: acknowledgements are heard again, holes are found again.
6. A segment is unlinked only when no frame in it waits, and the newest one never.

One thread at a time may use a Spool.
"""

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import structlog

from crow.spool.v1 import segment_pb2 as pb
from crow_daemon.spool.accounts import CameraMark, Hole, HoleReason, Lost, hole_message, marks_message
from crow_daemon.spool.format import segment_path
from crow_daemon.spool.limits import DropPolicy, SpoolLimits
from crow_daemon.spool.quarantine import Quarantine
from crow_daemon.spool.reading import START, Oldest, Position, Reading, SpooledFrame
from crow_daemon.spool.recovery import recover
from crow_daemon.spool.segment import Entry, Segment
from crow_daemon.spool.segment_log import SegmentLog
from crow_shared.clock import Clock, SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame, to_wire

__all__ = ["START", "Oldest", "Position", "Spool", "SpooledFrame"]

log = structlog.get_logger()

SEGMENT_BYTES = 32 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """The durable buffer of one daemon."""

    def __init__(
        self, directory: Path, limits: SpoolLimits, clock: Clock | None = None, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Opens the spool in `directory`, made if missing.

        Raises CrowError(UNAVAILABLE) when it cannot be read, CrowError(CONFLICT) when another process has it,
        CrowError(UNSUPPORTED) when a newer version wrote it. A disk that is full or read-only does not matter yet.
        """
        self._directory = directory
        self._limits = limits
        self._clock = clock or SystemClock()
        self._segment_bytes = min(segment_bytes, max(limits.max_bytes // 8, 1))
        self._quarantine = Quarantine(directory)
        self.trouble: str | None = None  # why the disk does not take notes (acknowledgements, holes) or unlink files
        try:
            self._log = SegmentLog(directory)
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._open()
        except BaseException:
            self._log.close()
            raise

    def _open(self) -> None:
        recovered = recover(self._directory)
        self._accounts = recovered.accounts
        self._log.restore(recovered)
        self._reading = Reading(self._log, self._accounts, self._quarantine)
        for number, damage in recovered.damages:
            log.warning("spool is damaged", segment=number, offset=damage.offset, bytes=damage.end - damage.offset)
            with suppress(OSError), segment_path(self._directory, number).open("rb") as file:
                file.seek(damage.offset)
                damaged = file.read(damage.end - damage.offset)
                self._quarantine.set_aside(number, damage.offset, damaged, {"why": "no valid record"})
        if recovered.in_doubt or not self.epochs():
            self._accounts.start_epoch(uuid4().hex)
        if recovered.in_doubt:
            with suppress(OSError):  # on a full disk the next append does it; until then the damage stays in sight
                self._begin_segment()
        self._accounts.drop_acknowledged()
        self._unlink_dead()

    @property
    def stored_bytes(self) -> int:
        """Bytes of the segment files."""
        return self._log.stored_bytes

    @property
    def half_full(self) -> bool:
        """Whether more than half of the bound is used; may be asked from any thread."""
        return self._log.stored_bytes > self._limits.max_bytes // 2

    def epochs(self) -> list[str]:
        """The runs of numbers that are not wholly acknowledged, oldest first; the last is the one being written."""
        return self._accounts.epochs()

    def start_epoch(self) -> str:
        """Seals the present epoch: what is appended from now on counts from 1 under a fresh name, which is returned.

        One that has given out no number yet goes on. Raises CrowError as `append` does.
        """
        present = self.epochs()[-1]
        if not self._accounts.marks(present):
            return present
        fresh = uuid4().hex
        self._accounts.start_epoch(fresh)
        try:
            self._begin_segment()
        except OSError as error:
            self._accounts.drop_epoch(fresh)
            raise self._refused(error) from error
        self._accounts.drop_acknowledged()
        self._unlink_dead()
        return fresh

    def append(self, frames: Sequence[Frame]) -> list[Frame]:
        """Numbers and stores frames in the present epoch, all or none; they are durable on return.

        Raises CrowError(EXHAUSTED) when there is no room and nothing may be let go for them, CrowError(UNAVAILABLE)
        when the disk refuses. No number is used then.
        """
        self.let_go_aged()
        self._make_room(sum(len(frame.payload) for frame in frames))
        attempts = 0
        while True:
            try:
                return self._write(frames)
            except OSError as error:
                attempts += 1
                if error.errno in _DISK_FULL:
                    may_drop = self._limits.drop is DropPolicy.OLDEST
                    if may_drop and self._let_go_oldest(HoleReason.SPOOL_FULL, "the disk is full"):
                        continue
                elif attempts == 1:  # a segment that the disk has failed once; a fresh one may do
                    continue
                raise self._refused(error) from error

    def read(self, epoch: str, after: Position, limit: int) -> list[SpooledFrame]:
        """Up to `limit` frames of an epoch that wait, in the order of spooling. A damaged one is given up and left out.

        Raises CrowError(UNAVAILABLE) when the disk does not read.
        """
        found: list[SpooledFrame] = []
        try:
            for segment, entry in self._reading.waiting(epoch, after):
                frame = self._reading.frame(segment, entry)
                if isinstance(frame, Hole):
                    self.give_up(epoch, frame)
                else:
                    found.append(SpooledFrame(Position(segment.number, entry.offset), frame))
                if len(found) == limit:
                    break
        except OSError as error:
            raise self._refused(error) from error
        return found

    def release(self, epoch: str, through: Mapping[str, int]) -> None:
        """Forgets the frames and holes of each camera up to a number: the receiver has passed them."""
        moved = [camera_id for camera_id, seq in through.items() if self._accounts.acknowledge(epoch, camera_id, seq)]
        if not moved:
            return
        marks = [self._accounts.mark(epoch, camera_id) for camera_id in moved]
        self._note([pb.RecordHeader(marks=marks_message(epoch, marks))])
        self._accounts.drop_acknowledged()
        self._unlink_dead()

    def give_up(self, epoch: str, hole: Hole) -> int:
        """Puts a hole in the place of frames that will never be delivered; returns how many of them still waited."""
        frames = self._accounts.give_up(epoch, hole)
        if frames:
            self._note_holes([(epoch, hole)])
            self._unlink_dead()
        return frames

    def holes(self, epoch: str, camera_id: str, from_seq: int, to_seq: int) -> list[Hole]:
        """The holes of a camera that lie between two numbers, both inclusive, in order."""
        return self._accounts.holes(epoch, camera_id, from_seq, to_seq)

    def marks(self, epoch: str) -> list[CameraMark]:
        """How far each camera of an epoch has come."""
        return self._accounts.marks(epoch)

    def totals(self) -> list[CameraMark]:
        """Per camera, how many numbers were given out and how many acknowledged, since the spool was made, by id."""
        return self._accounts.totals()

    def last_capture_us(self, camera_id: str) -> int | None:
        """The capture time of the frame that got the camera's last number, ever; None while there was none.

        May be asked from any thread.
        """
        return self._accounts.last_capture_us(camera_id)

    def last_captures_us(self, camera_id: str, frames: int) -> list[int]:
        """The capture times of the last frames of a camera that got a number, oldest first.

        Fewer than asked for where their segments are gone. Raises CrowError(UNAVAILABLE) when the disk does not read.
        """
        try:
            return self._reading.last_captures_us(camera_id, frames)
        except OSError as error:
            raise self._refused(error) from error

    def waiting(self, epoch: str | None = None) -> dict[str, int]:
        """How many frames of each camera wait, in an epoch or in all; cameras without any are left out."""
        counts = Counter[str]()
        for each in self.epochs() if epoch is None else [epoch]:
            counts.update(self._accounts.waiting(each))
        return dict(counts)

    def oldest(self, epoch: str) -> Oldest | None:
        """The first frame of an epoch that waits. Raises CrowError(UNAVAILABLE) when the disk does not read."""
        try:
            return self._reading.oldest(epoch)
        except OSError as error:
            raise self._refused(error) from error

    def lost(self) -> list[Lost]:
        """What was given up since the spool was made, over all epochs."""
        return self._accounts.lost()

    def let_go_aged(self) -> None:
        """Gives up what has waited for longer than `max_age_s`, a segment at a time. Raises CrowError(UNAVAILABLE)."""
        limit_us = self._clock.now_us() - int(self._limits.max_age_s * 1_000_000)
        detail = f"the spool keeps frames for {self._limits.max_age_s / 3600:g} h"
        while self._limits.max_age_s and (oldest := self._oldest_with_frames()) and oldest.newest_us < limit_us:
            self._let_go_oldest(HoleReason.SPOOL_AGE, detail)

    def erase(self, camera_id: str, from_us: int, to_us: int) -> int:
        """Makes the pictures of a camera from a span of capture time, `to_us` excluded, unreadable.

        That includes released ones that still lie in segments. Their numbers become holes. Returns how many they were.

        Raises CrowError(UNAVAILABLE) when the disk refuses; some may be gone then: do it again.
        """
        erased = 0
        try:
            for segment in list(self._log.segments.values()):
                found = [
                    entry for entry in self._log.reader(segment).entries if _shows(entry, camera_id, from_us, to_us)
                ]
                holes = [Hole(camera_id, seq, seq, HoleReason.ERASED, "by the operator") for seq in map(_seq, found)]
                self._note_holes(
                    [(segment.epoch, hole) for hole in holes if self._accounts.give_up(segment.epoch, hole)]
                )
                self._log.overwrite(segment, found)
                erased += len(found)
            self._quarantine.erase(camera_id, from_us, to_us)
            self._log.sync()
        except OSError as error:
            raise self._refused(error) from error
        self._unlink_dead()
        return erased

    def mend(self) -> int:
        """Writes segments that hold damaged bytes anew without them, and returns how many; `repair` has the steps.

        Raises CrowError(UNAVAILABLE) when the disk refuses.
        """
        try:
            self._begin_segment()
            self._unlink_dead()
            damaged = {number for number, _ in recover(self._directory).damages} & self._log.segments.keys()
            for number in damaged:
                self._log.rewrite(self._log.segments[number], self._accounts)
        except OSError as error:
            raise self._refused(error) from error
        return len(damaged)

    def close(self) -> None:
        """Gives files and directory back; nothing promised is lost by it."""
        self._log.close()

    # Writing

    def _write(self, frames: Sequence[Frame]) -> list[Frame]:
        now_us = self._clock.now_us()
        if self._needs_segment(now_us):
            self._begin_segment()
        epoch = self.epochs()[-1]
        marks: dict[str, CameraMark] = {}
        numbered: list[Frame] = []
        records: list[tuple[pb.RecordHeader, bytes]] = []
        for frame in frames:
            before = marks.get(frame.camera_id) or self._accounts.mark(epoch, frame.camera_id)
            marks[frame.camera_id] = replace(before, last_seq=before.last_seq + 1, last_capture_us=frame.capture_us)
            numbered.append(replace(frame, seq=before.last_seq + 1))
            header = to_wire(replace(numbered[-1], payload=b""))
            spooled = pb.SpooledFrame(
                epoch=epoch,
                spooled_us=now_us,
                payload_bytes=len(frame.payload),
                frame=header,
            )
            records.append((pb.RecordHeader(frame=spooled), frame.payload))
        # With it, damage to the last frame's header does not hide which numbers were given out.
        records.append((pb.RecordHeader(marks=marks_message(epoch, list(marks.values()))), b""))
        self._log.write(records)
        for mark in marks.values():
            self._accounts.give_out(epoch, mark.camera_id, mark.last_seq)
        for frame in numbered:
            self._accounts.captured(frame.camera_id, frame.capture_us)
        return numbered

    def _note(self, headers: Sequence[pb.RecordHeader]) -> None:
        """Writes records that may get lost. A disk that does not take them must not stop the delivery of frames."""
        try:
            if self._log.written is None:
                self._begin_segment()
            self._log.note(headers)
        except OSError as error:
            self._troubled(error)
        else:
            self.trouble = None

    def _begin_segment(self) -> None:
        """Starts a segment, durable with all that is known. Raises OSError."""
        before = next(reversed(self._log.segments.values()), None)
        self._log.begin(self._accounts.snapshot(), self.epochs()[-1])
        if before is not None and not before.spans:  # all that it says is in the fresh start
            try:
                self._log.unlink(before)
            except OSError as error:
                self._troubled(error)

    def _needs_segment(self, now_us: int) -> bool:
        segment = self._log.written
        if segment is None:
            return True
        share_us = int(self._limits.max_age_s * 1_000_000) // 8  # so that age does not have to wait for bytes
        aged = bool(share_us and segment.spans and now_us - segment.oldest_us > share_us)
        return segment.end >= self._segment_bytes or aged

    # Giving up and letting go

    def _note_holes(self, holes: Sequence[tuple[str, Hole]]) -> None:
        self._note(
            [pb.RecordHeader(given_up=pb.GivenUp(epoch=epoch, hole=hole_message(hole))) for epoch, hole in holes]
        )

    def _make_room(self, fresh_bytes: int) -> None:
        """Raises CrowError(EXHAUSTED) when the policy or the file system leaves none."""
        while True:
            over = self._log.stored_bytes + fresh_bytes > self._limits.max_bytes
            low = self._is_disk_low(fresh_bytes)
            if not over and not low:
                return
            detail = f"the spool holds {self._limits.max_bytes} bytes" if over else "the disk is nearly full"
            if self._limits.drop is DropPolicy.NEWEST:
                raise CrowError(Kind.EXHAUSTED, "spool_full", f"{detail}; what waits is kept, as [spool] drop says")
            if not self._let_go_oldest(HoleReason.SPOOL_FULL, detail):
                if low:
                    raise CrowError(Kind.EXHAUSTED, "spool_full", f"{detail}, and the spool has nothing to let go")
                return  # a single group is larger than the bound

    def _is_disk_low(self, fresh_bytes: int) -> bool:
        if not self._limits.min_free_bytes:
            return False
        try:
            return self._log.free_bytes() < self._limits.min_free_bytes + fresh_bytes
        except OSError as error:
            raise self._refused(error) from error

    def _let_go_oldest(self, reason: HoleReason, detail: str) -> bool:
        """Gives up what waits in the oldest segment and gives back its room; whether there was one with frames.

        Raises CrowError(UNAVAILABLE) when the disk refuses; then nothing is given up.
        """
        oldest = self._oldest_with_frames()
        if oldest is None:
            return False
        holes = [Hole(camera_id, *span, reason, detail) for camera_id, spans in oldest.spans.items() for span in spans]
        try:
            self._give_back_room(oldest)
        except OSError as error:
            raise self._refused(error) from error
        given_up = [(oldest.epoch, hole) for hole in holes if self._accounts.give_up(oldest.epoch, hole)]
        self._note_holes(given_up)
        self._unlink_dead()
        return True

    def _oldest_with_frames(self) -> Segment | None:
        return next((segment for segment in self._log.segments.values() if segment.spans), None)

    def _give_back_room(self, segment: Segment) -> None:
        try:
            if self._log.is_newest(segment):
                self._begin_segment()
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            # Not a byte is free for the segment that has to follow first: this one stays, without its pictures.
            self._log.overwrite(segment, self._log.reader(segment).entries)
            segment.spans = {}
        else:
            self._unlink(segment)

    def _unlink_dead(self) -> None:
        """Unlinks segments in which nothing waits, of each epoch from its oldest to the first one that is needed."""
        needed: set[str] = set()
        for segment in list(self._log.segments.values()):
            if segment.epoch in needed or segment.is_live(self._accounts):
                needed.add(segment.epoch)
                continue
            try:
                if self._log.is_newest(segment):
                    if segment.end < self._segment_bytes or not segment.spans:
                        break
                    self._begin_segment()
                self._unlink(segment)
            except OSError as error:
                self._troubled(error)
                break

    def _unlink(self, segment: Segment) -> None:
        """Raises OSError."""
        try:
            self._log.sync()
        except OSError as error:  # after a crash its frames would count as let go; the room is needed all the same
            self._troubled(error)
        self._log.unlink(segment)

    # Trouble

    def _refused(self, error: OSError) -> CrowError:
        said = f"{self._directory}: {error.strerror or error}"
        if error.errno in _DISK_FULL:
            return CrowError(Kind.EXHAUSTED, "spool_full", said)
        return CrowError(Kind.UNAVAILABLE, "spool_unavailable", said)

    def _troubled(self, error: OSError) -> None:
        said = self._refused(error).message
        if self.trouble != said:
            log.error("spool cannot take notes; frames are delivered all the same", error=said)
        self.trouble = said


def _shows(entry: Entry, camera_id: str, from_us: int, to_us: int) -> bool:
    frame = entry.header.frame
    return frame.camera_id == camera_id and from_us <= frame.capture_time_us < to_us


def _seq(entry: Entry) -> int:
    return entry.header.frame.seq
