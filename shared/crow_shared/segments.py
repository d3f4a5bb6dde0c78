"""Pictures on disk: append-only segment files, pointed at by rows of an index that its owner keeps in SQLite.

1. Bytes are appended, never changed. A pointer is (segment, offset, length, CRC-32).
2. `sync` makes everything appended so far durable, the file's directory entry included. Only then may the owner commit
   rows that point there. Bytes that no committed row points at are garbage: after a crash nothing has to be parsed.
3. After opening, the first append starts a fresh segment under a number that no file has, so that a half-written tail
   is never appended to.
4. Space is given back by unlinking whole segments that the owner no longer points at.

Why not SQLite blobs: they write each byte about twice, which wears flash and halves the rate. Why not one file per
picture: an order of magnitude slower to make durable.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from crow_shared.errors import CrowError, Kind

SEGMENT_BYTES = 32 << 20
_SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a picture lies; `crc32` is of its bytes."""

    segment: int
    offset: int
    length: int
    crc32: int


class SegmentStore:
    """The segment files of one directory. One writer; readers may be other threads."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Opens `directory`, made if missing. Raises CrowError(UNAVAILABLE) when that is impossible."""
        self._directory = directory
        self._segment_bytes = segment_bytes
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._number = max(self.segments(), default=0)
        except OSError as error:
            raise _unavailable(directory, error) from error
        self._descriptor: int | None = None
        self._size = 0
        self._dirty = False

    @property
    def current(self) -> int | None:
        """The segment that is being appended to, which must not be unlinked."""
        return self._number if self._descriptor is not None else None

    def segments(self) -> list[int]:
        """The numbers of the segment files present, oldest first."""
        return sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}"))

    def append(self, payload: bytes) -> Pointer:
        """Appends bytes; they are durable after the next `sync`. Raises CrowError(UNAVAILABLE), disk full included."""
        try:
            if self._descriptor is None or self._size >= self._segment_bytes:
                self._start_segment()
            assert self._descriptor is not None
            view = memoryview(payload)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._abandon()
            raise _unavailable(self._directory, error) from error
        pointer = Pointer(self._number, self._size, len(payload), crc32(payload))
        self._size += len(payload)
        self._dirty = True
        return pointer

    def sync(self) -> None:
        """Makes all appended bytes durable. Raises CrowError(UNAVAILABLE); then none of them may be pointed at."""
        if not self._dirty or self._descriptor is None:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages: this file is never synced again.
            self._abandon()
            raise _unavailable(self._directory, error) from error
        self._dirty = False

    def read(self, pointer: Pointer) -> bytes:
        """The bytes at `pointer`. Raises CrowError(CORRUPT) when they are missing or fail their checksum."""
        try:
            with self._path(pointer.segment).open("rb", buffering=0) as file:
                payload = os.pread(file.fileno(), pointer.length, pointer.offset)
        except FileNotFoundError:
            payload = b""
        except OSError as error:
            raise _unavailable(self._directory, error) from error
        if len(payload) != pointer.length or crc32(payload) != pointer.crc32:
            place = f"{self._path(pointer.segment)} at {pointer.offset}, {pointer.length} bytes"
            raise CrowError(Kind.CORRUPT, "picture_corrupt", f"{place}: missing or damaged")
        return payload

    def keep_only(self, segments: Iterable[int]) -> int:
        """Unlinks all other segments, but never the one being written; returns how many went."""
        kept = {*segments, self.current}
        others = [segment for segment in self.segments() if segment not in kept]
        for segment in others:
            self._path(segment).unlink(missing_ok=True)
        return len(others)

    def close(self) -> None:
        """Closes the current segment; what was not synced is not promised."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _start_segment(self) -> None:
        if self._descriptor is not None:
            self.sync()
            self.close()
        self._number += 1
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._descriptor = os.open(self._path(self._number), flags, 0o600)
        self._size = 0
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _abandon(self) -> None:
        """Leaves a segment whose tail is in doubt; the next append starts a fresh one."""
        self._dirty = False
        self.close()

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:012d}{_SUFFIX}"


def _unavailable(directory: Path, error: OSError) -> CrowError:
    return CrowError(Kind.UNAVAILABLE, "store_unavailable", f"{directory}: {error.strerror or error}")
