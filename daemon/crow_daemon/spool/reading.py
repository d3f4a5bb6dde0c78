"""Reading frames back: in the order of spooling, each picture checked.

Invariant: what is returned is the very frame that was spooled. A damaged one is set aside and becomes a hole; one that
the disk does not read is tried again some times before, since a disk may come back.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple
from zlib import crc32

import structlog

from crow.spool.v1 import segment_pb2 as pb
from crow_daemon.spool.accounts import Accounts, Hole, HoleReason
from crow_daemon.spool.quarantine import Quarantine
from crow_daemon.spool.segment import Entry, Segment
from crow_daemon.spool.segment_log import SegmentLog
from crow_shared.errors import CrowError
from crow_shared.frame import Frame, from_wire

log = structlog.get_logger()

READ_ATTEMPTS = 3


class Position(NamedTuple):
    """A place in the order of spooling: a segment and an offset in it."""

    segment: int
    offset: int


START = Position(0, -1)


@dataclass(frozen=True, slots=True)
class SpooledFrame:
    """A frame and its place in the order of spooling."""

    position: Position
    frame: Frame


@dataclass(frozen=True, slots=True)
class Oldest:
    """The first frame that waits: when it was taken and when it was spooled, microseconds since the Unix epoch."""

    capture_us: int
    spooled_us: int


class Reading:
    """The frames of a log, most of all those that wait. All methods raise OSError when the disk does not read."""

    def __init__(self, segment_log: SegmentLog, accounts: Accounts, quarantine: Quarantine) -> None:
        self._log = segment_log
        self._accounts = accounts
        self._quarantine = quarantine
        self._oldest: dict[str, tuple[Position, pb.SpooledFrame]] = {}  # by epoch: the first that waited when last seen
        self._unread: tuple[Position, int] = (START, 0)  # a frame that the disk did not read, and how often

    def waiting(self, epoch: str, after: Position) -> Iterator[tuple[Segment, Entry]]:
        """The frames of an epoch that wait behind a position, in order of spooling."""
        for segment in list(self._log.segments.values()):
            if segment.number < after.segment or segment.epoch != epoch or not segment.spans:
                continue
            entries = self._log.reader(segment).entries
            behind = after.offset if segment.number == after.segment else -1
            for index in range(bisect_right(entries, behind, key=_offset), len(entries)):
                camera_id, seq = entries[index].header.frame.camera_id, entries[index].header.frame.seq
                if self._accounts.is_waiting(epoch, camera_id, seq) and segment.holds(camera_id, seq):
                    yield segment, entries[index]

    def oldest(self, epoch: str) -> Oldest | None:
        """The first frame of an epoch that waits."""
        after = START
        if known := self._oldest.get(epoch):
            after, found = known
            if self._accounts.is_waiting(epoch, found.frame.camera_id, found.frame.seq):
                return Oldest(found.frame.capture_time_us, found.spooled_us)
        for segment, entry in self.waiting(epoch, after):
            self._oldest[epoch] = (Position(segment.number, entry.offset), entry.header)
            return Oldest(entry.header.frame.capture_time_us, entry.header.spooled_us)
        self._oldest.pop(epoch, None)
        return None

    def last_captures_us(self, camera_id: str, frames: int) -> list[int]:
        """The capture times of the last frames of a camera, whether they wait or not, oldest first."""
        found: list[int] = []
        for segment in reversed(list(self._log.segments.values())):
            if len(found) >= frames:
                break
            headers = [entry.header.frame for entry in self._log.reader(segment).entries]
            found += [
                header.capture_time_us
                for header in reversed(headers)
                if header.camera_id == camera_id and segment.holds(camera_id, header.seq)
            ]
        return found[:frames][::-1]

    def frame(self, segment: Segment, entry: Entry) -> Frame | Hole:
        """The frame with its picture, or the hole that takes its place when it is damaged."""
        header, position = entry.header.frame, Position(segment.number, entry.offset)
        payload, why = b"", "its checksum is wrong"
        try:
            payload = self._log.reader(segment).payload(entry)
        except OSError as error:
            attempts = self._unread[1] + 1 if self._unread[0] == position else 1
            self._unread = (position, attempts)
            if attempts < READ_ATTEMPTS:
                raise
            why = f"the disk does not read it: {error.strerror}"
        if len(payload) == entry.header.payload_bytes and crc32(payload) == header.crc32:
            try:
                return replace(from_wire(header), payload=payload)
            except CrowError as error:
                why = error.message
        known = {
            "why": why,
            "epoch": entry.header.epoch,
            "camera_id": header.camera_id,
            "seq": header.seq,
            "capture_us": header.capture_time_us,
            "crc32": header.crc32,
        }
        log.warning("a spooled frame is damaged", camera=header.camera_id, seq=header.seq, why=why)
        self._quarantine.set_aside(segment.number, entry.payload_offset, payload, known)
        return Hole(header.camera_id, header.seq, header.seq, HoleReason.CORRUPT, why)


def _offset(entry: Entry) -> int:
    return entry.offset
