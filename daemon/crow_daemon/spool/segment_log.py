"""The segment files of a spool as one log: appended to at its end, read anywhere, shortened at any segment.

Invariants
1. One process has the directory; the lock is the kernel's and ends with the process.
2. The newest segment is never unlinked until a newer one is durable: it knows which numbers were given out.
3. What says that frames may go is synced before their segment is unlinked.
4. After a write or a sync has failed, its segment is not written any more; what lies behind the last success in it does
   not count, neither now nor, by the next segment's start, after a restart.

All methods raise OSError when the disk refuses, unless they say otherwise.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from crow.spool.v1 import segment_pb2 as pb
from crow_daemon.spool.accounts import Accounts
from crow_daemon.spool.format import segment_path
from crow_daemon.spool.recovery import Recovered
from crow_daemon.spool.segment import Entry, Segment, SegmentReader, SegmentWriter
from crow_shared.disk import locked_directory, make_directory, overwrite

_OPEN_READERS = 3  # the live lane, the backlog lane, and one that looks for the oldest


class SegmentLog:
    """The files, what is known of each, and the descriptors that are open."""

    def __init__(self, directory: Path) -> None:
        """Takes the directory, made if missing. Raises CrowError(CONFLICT) when another process has it."""
        self.directory = directory
        self.segments: dict[int, Segment] = {}  # by number, oldest first
        self.stored_bytes = 0
        self._next_number = 1
        self._writer: SegmentWriter | None = None
        self._readers: OrderedDict[int, SegmentReader] = OrderedDict()  # the latest used last
        make_directory(directory)
        self._lock: int | None = locked_directory(directory)

    def restore(self, recovered: Recovered) -> None:
        """Takes over what is there. Empty files, which a crash left behind, are removed where the disk allows it."""
        self.segments = recovered.segments
        self.stored_bytes = sum(segment.disk_bytes for segment in self.segments.values())
        self._next_number = max([0, *self.segments, *recovered.empty]) + 1
        for number in recovered.empty:
            with suppress(OSError):
                segment_path(self.directory, number).unlink()

    @property
    def written(self) -> Segment | None:
        """The segment that is being appended to, if one is."""
        return None if self._writer is None else self.segments[self._writer.number]

    def is_newest(self, segment: Segment) -> bool:
        """Whether no segment was begun after it."""
        return segment.number == next(reversed(self.segments))

    def begin(self, start: pb.SegmentStart, epoch: str) -> None:
        """Starts a segment for frames of `epoch`, durable with `start`; it is appended to from now on."""
        number = self._next_number
        self._next_number += 1
        path = segment_path(self.directory, number)
        fresh = SegmentWriter(path, number)
        try:
            fresh.append([(pb.RecordHeader(segment_start=start), b"")])
            fresh.sync()
            self._sync_directory()
        except OSError:
            fresh.close()
            with suppress(OSError):
                path.unlink()
                self._sync_directory()  # should it come back after a power cut, it would overrule what is promised next
            raise
        if self._writer is not None:
            self._writer.close()
        self._writer = fresh
        self.segments[number] = Segment(number, epoch)
        self._grow()

    def write(self, records: Sequence[tuple[pb.RecordHeader, bytes]]) -> None:
        """Appends records with their payloads, durably. When it raises, none of them counts."""
        assert self._writer is not None, "begun"
        try:
            written = self._writer.append(records)
            self._writer.sync()
        except OSError:
            self.abandon()
            raise
        segment = self.segments[self._writer.number]
        reader = self._readers.get(segment.number)
        for record in written:
            if record.header.HasField("frame"):
                segment.add(record.header.frame)
                if reader is not None:
                    reader.add(record)
        self._grow()

    def note(self, headers: Sequence[pb.RecordHeader]) -> None:
        """Appends records that become durable with the next `write` or `sync`."""
        assert self._writer is not None, "begun"
        try:
            self._writer.append([(header, b"") for header in headers])
        except OSError:
            self.abandon()
            raise
        self._grow()

    def sync(self) -> None:
        """Makes notes durable."""
        if self._writer is not None:
            try:
                self._writer.sync()
            except OSError:
                self.abandon()
                raise

    def abandon(self) -> None:
        """Appends no more to the segment that is being written; never raises."""
        if self._writer is not None:
            self._writer.abandon(self.segments[self._writer.number].end)
            self._writer = None

    def unlink(self, segment: Segment) -> None:
        """Gives a segment's room back. It must not be the newest."""
        assert not self.is_newest(segment)
        segment_path(self.directory, segment.number).unlink(missing_ok=True)
        del self.segments[segment.number]
        self.stored_bytes -= segment.disk_bytes
        if reader := self._readers.pop(segment.number, None):
            reader.close()

    def overwrite(self, segment: Segment, entries: Sequence[Entry]) -> None:
        """Makes pictures unreadable, durably; needs no free space where the file system can punch holes."""
        if not entries:
            return
        descriptor = os.open(segment_path(self.directory, segment.number), os.O_WRONLY | os.O_CLOEXEC)
        try:
            for entry in entries:
                overwrite(descriptor, entry.payload_offset, entry.header.payload_bytes)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def rewrite(self, segment: Segment, accounts: Accounts) -> None:
        """Puts in a segment's place, in one step, its valid records without the frames that do not wait any more."""
        path = segment_path(self.directory, segment.number)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        reader = self.reader(segment)
        copy = SegmentWriter(fresh, segment.number)
        try:
            for record in reader.records():
                frame = record.header.frame
                if record.header.HasField("frame") and not (
                    segment.holds(frame.frame.camera_id, frame.frame.seq)
                    and accounts.is_waiting(segment.epoch, frame.frame.camera_id, frame.frame.seq)
                ):
                    continue
                copy.append([(record.header, reader.payload(record))])
            copy.sync()
        finally:
            copy.close()
        fresh.replace(path)
        self._sync_directory()
        self._readers.pop(segment.number).close()
        self.stored_bytes += copy.end - segment.disk_bytes
        segment.end = segment.disk_bytes = copy.end

    def reader(self, segment: Segment) -> SegmentReader:
        """The segment, open for reading; good until the next call."""
        reader = self._readers.get(segment.number) or SegmentReader(self.directory, segment)
        self._readers[segment.number] = reader
        self._readers.move_to_end(segment.number)
        if len(self._readers) > _OPEN_READERS:
            self._readers.popitem(last=False)[1].close()
        return reader

    def free_bytes(self) -> int:
        """What the file system has left for us."""
        system = os.statvfs(self.directory)
        return system.f_bavail * system.f_frsize

    def close(self) -> None:
        """Gives files and directory back; never raises."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        while self._readers:
            self._readers.popitem()[1].close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _sync_directory(self) -> None:
        assert self._lock is not None, "open"
        os.fsync(self._lock)

    def _grow(self) -> None:
        assert self._writer is not None
        segment = self.segments[self._writer.number]
        self.stored_bytes += self._writer.end - segment.end
        segment.disk_bytes += self._writer.end - segment.end
        segment.end = self._writer.end
