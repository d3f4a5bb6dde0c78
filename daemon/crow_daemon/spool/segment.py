"""One segment file: what is known of it in memory, how it is written, how its frames are read.

Invariants
1. A file is only appended to, by one writer, and is synced no more once a sync or a write of it has failed: the kernel
   may have dropped the pages and would call the next sync a success.
2. Of a frame in memory: nothing. Of a segment: per camera the spans of its numbers.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crow.spool.v1 import segment_pb2 as pb
from crow_daemon.spool.accounts import Accounts
from crow_daemon.spool.format import Record, encoded, scan, segment_path

_BUFFERS_PER_CALL = 512  # Linux takes 1,024


@dataclass(slots=True)
class Segment:
    """What is known of a segment. Its records end at `end`; bytes behind that do not count."""

    number: int
    epoch: str = ""  # of its frames
    end: int = 0
    disk_bytes: int = 0
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # numbers by camera
    oldest_us: int = 0  # when its first frame was spooled, microseconds since the Unix epoch; 0 without frames
    newest_us: int = 0

    def add(self, frame: pb.SpooledFrame) -> None:
        """A frame of it."""
        self.epoch = frame.epoch
        spans = self.spans.setdefault(frame.frame.camera_id, [])
        seq = frame.frame.seq
        if spans and spans[-1][1] == seq - 1:
            spans[-1] = (spans[-1][0], seq)
        else:
            spans.append((seq, seq))
        self.oldest_us = self.oldest_us or frame.spooled_us
        self.newest_us = max(self.newest_us, frame.spooled_us)

    def clip(self, camera_id: str, last_seq: int) -> None:
        """Frames above `last_seq` do not count: they were written, but the disk did not confirm it."""
        spans = self.spans.get(camera_id)
        if spans and spans[-1][1] > last_seq:
            self.spans[camera_id] = [(first, min(last, last_seq)) for first, last in spans if first <= last_seq]

    def holds(self, camera_id: str, seq: int) -> bool:
        """Whether this frame is one of its."""
        return any(first <= seq <= last for first, last in self.spans.get(camera_id, ()))

    def is_live(self, accounts: Accounts) -> bool:
        """Whether a frame in it still waits."""
        return any(
            next(accounts.waiting_spans(self.epoch, camera_id, first, last), None) is not None
            for camera_id, spans in self.spans.items()
            for first, last in spans
        )


class SegmentWriter:
    """A segment that is being written."""

    def __init__(self, path: Path, number: int) -> None:
        """Creates it at `path`, empty. Raises OSError."""
        self.number = number
        self.end = 0
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def append(self, records: Sequence[tuple[pb.RecordHeader, bytes]]) -> list[Record]:
        """Writes records with their payloads; durable after `sync`. Raises OSError; then only `abandon` may follow."""
        buffers: list[bytes] = []
        written: list[Record] = []
        offset = self.end
        for header, payload in records:
            head = encoded(header, self.number, offset)
            written.append(Record(offset, offset + len(head), offset + len(head) + len(payload), header))
            buffers += (head, payload)
            offset = written[-1].end
        _write_all(self._descriptor, buffers)
        self.end = offset
        return written

    def sync(self) -> None:
        """Makes durable what was appended. Raises OSError; then only `abandon` may follow."""
        os.fdatasync(self._descriptor)

    def abandon(self, end: int) -> None:
        """Writes no more, and cuts off what lies behind `end` where the disk allows it."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, end)
        self.close()

    def close(self) -> None:
        """Gives the file back."""
        with suppress(OSError):  # whether the bytes are there is known from the sync
            os.close(self._descriptor)


class Entry(NamedTuple):
    """Where a frame's record begins and where its picture lies, in bytes from the segment's start."""

    offset: int
    payload_offset: int
    header: pb.SpooledFrame


class SegmentReader:
    """An open segment with the list of its frames, for reading them one after the other."""

    def __init__(self, directory: Path, segment: Segment) -> None:
        """Opens it and reads its headers. Raises OSError."""
        self._segment = segment
        self._descriptor = os.open(segment_path(directory, segment.number), os.O_RDONLY | os.O_CLOEXEC)
        self.entries: list[Entry] = []
        try:
            for record in self.records():
                self.add(record)
        except OSError:
            self.close()
            raise

    def records(self) -> Iterator[Record]:
        """The valid records, in order. Raises OSError."""
        for found in scan(self._descriptor, self._segment.number, self._segment.end):
            if isinstance(found, Record):
                yield found

    def add(self, record: Record) -> None:
        """One more record, behind those that are known."""
        if record.header.HasField("frame"):
            self.entries.append(Entry(record.offset, record.payload_offset, record.header.frame))

    def payload(self, place: Entry | Record) -> bytes:
        """The bytes of a frame's picture, unchecked; none for another record. Raises OSError."""
        header = place.header if isinstance(place, Entry) else place.header.frame
        return os.pread(self._descriptor, header.payload_bytes, place.payload_offset)

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._descriptor)


def _write_all(descriptor: int, buffers: list[bytes]) -> None:
    """Raises OSError when not all of it can be written."""
    for start in range(0, len(buffers), _BUFFERS_PER_CALL):
        views = [memoryview(buffer) for buffer in buffers[start : start + _BUFFERS_PER_CALL] if buffer]
        while views:
            written = os.writev(descriptor, views)
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]
