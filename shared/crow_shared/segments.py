"""Pictures on disk: append-only segment files, pointed at by rows of an index that its owner keeps in SQLite.

1. Bytes are appended, and changed by `erase` alone, which makes them zeros. A pointer is (segment, offset, length,
   CRC-32).
2. `sync` makes everything appended so far durable, the file's directory entry included. Only then may the owner commit
   rows that point there. Bytes that no committed row points at are garbage: after a crash nothing has to be parsed.
3. After opening, the first append starts a fresh segment under a number that no file has, so that a half-written tail
   is never appended to.
4. Space is given back by unlinking whole segments that the owner no longer points at. `erase` takes single pictures out
   of a segment that others still lie in; the owner may say that they are gone after it has returned.
5. One process at a time has the directory: a second one would unlink what the first has just written and not yet
   pointed at. The lock is the kernel's and ends with the process.

Why not SQLite blobs: they write each byte about twice, which wears flash and halves the rate. Why not one file per
picture: an order of magnitude slower to make durable.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from crow_shared.disk import locked_directory, make_directory, overwrite
from crow_shared.errors import CrowError, Kind

SEGMENT_BYTES = 32 << 20
IOV_MOST = 1024  # buffers that one writev takes (IOV_MAX on Linux)
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
        """Opens `directory`, made if missing.

        Raises CrowError(UNAVAILABLE) when that is impossible, CrowError(CONFLICT) when another process has it.
        """
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self._size = 0
        self._dirty = False
        self._lost: CrowError | None = None  # why bytes since the last `sync` will not become durable
        try:
            make_directory(directory)
            self._lock: int | None = locked_directory(directory)
            self._number = max(self.segments(), default=0)
        except OSError as error:
            raise _unavailable(directory, error) from error

    @property
    def current(self) -> int | None:
        """The segment that is being appended to, which must not be unlinked."""
        return self._number if self._descriptor is not None else None

    def segments(self) -> list[int]:
        """The numbers of the segment files present, oldest first."""
        return sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdecimal())

    def append(self, payload: bytes) -> Pointer:
        """Appends bytes; they are durable after the next `sync`. Raises CrowError(UNAVAILABLE), disk full included."""
        return self.append_all([payload], [crc32(payload)])[0]

    def append_all(self, payloads: Sequence[bytes], checksums: Sequence[int]) -> list[Pointer]:
        """Appends each of several payloads, whose CRC-32s the caller knows, side by side in one segment.

        They are durable after the next `sync`. Raises CrowError(UNAVAILABLE), disk full included: then none counts.
        """
        try:
            if self._descriptor is None or self._size >= self._segment_bytes:
                self._start_segment()
            assert self._descriptor is not None
            for start in range(0, len(payloads), IOV_MOST):
                _write(self._descriptor, payloads[start : start + IOV_MOST])
        except OSError as error:
            # The tail is in doubt: the next append starts a fresh segment. What lies before it still counts.
            self._sync_segment()
            self._close_segment()
            raise _unavailable(self._directory, error) from error
        pointers = []
        for payload, checksum in zip(payloads, checksums, strict=True):
            pointers.append(Pointer(self._number, self._size, len(payload), checksum))
            self._size += len(payload)
        self._dirty = True
        return pointers

    def sync(self) -> None:
        """Makes all bytes durable that were appended since the last call, in whichever segments they lie.

        Raises CrowError(UNAVAILABLE); then none of them may be pointed at.
        """
        self._sync_segment()
        if self._lost is not None:
            lost, self._lost = self._lost, None
            raise lost

    def read(self, pointer: Pointer) -> bytes:
        """The bytes at `pointer`. Raises CrowError(CORRUPT) when they are missing or fail their checksum."""
        return read_segment(self._directory, pointer)

    def erase(self, pointers: Iterable[Pointer]) -> None:
        """Makes the bytes at these pointers zeros, durably; a segment that is gone has none.

        Raises CrowError(UNAVAILABLE) when the disk refuses; then any of them may still be there.
        """
        by_segment: dict[int, list[Pointer]] = {}
        for pointer in pointers:
            by_segment.setdefault(pointer.segment, []).append(pointer)
        try:
            for segment, places in by_segment.items():
                self._erase_in(segment, places)
        except OSError as error:
            raise _unavailable(self._directory, error) from error

    def _erase_in(self, segment: int, places: Iterable[Pointer]) -> None:
        try:
            descriptor = os.open(self._path(segment), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            for place in places:
                overwrite(descriptor, place.offset, place.length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def keep_only(self, segments: Iterable[int]) -> int:
        """Unlinks all other segments, but never the one being written; returns how many went.

        Raises CrowError(UNAVAILABLE) when the disk refuses.
        """
        kept = {*segments, self.current}
        try:
            others = [segment for segment in self.segments() if segment not in kept]
            for segment in others:
                self._path(segment).unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(self._directory, error) from error
        return len(others)

    def close(self) -> None:
        """Gives the directory back; what was not synced is not promised. Reading goes on working."""
        self._close_segment()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start_segment(self) -> None:
        assert self._lock is not None, "open"
        self._sync_segment()
        self._close_segment()
        self._number += 1
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._descriptor = os.open(self._path(self._number), flags, 0o600)
        self._size = 0
        os.fsync(self._lock)  # the directory, and with it the new file's entry

    def _sync_segment(self) -> None:
        if self._dirty and self._descriptor is not None:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                # The kernel may have dropped the pages: this file is never synced again.
                self._lost = _unavailable(self._directory, error)
                self._close_segment()
        self._dirty = False

    def _close_segment(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # whether the bytes are there is known from the sync
                os.close(self._descriptor)
            self._descriptor = None

    def _path(self, segment: int) -> Path:
        return _segment_path(self._directory, segment)


def read_segment(directory: Path, pointer: Pointer) -> bytes:
    """The bytes at `pointer`, for who does not own the directory, too.

    Raises CrowError(CORRUPT) "picture_corrupt" when they are missing or fail their checksum: its owner may be erasing
    them at this moment.
    """
    path = _segment_path(directory, pointer.segment)
    try:
        with path.open("rb", buffering=0) as file:
            payload = os.pread(file.fileno(), pointer.length, pointer.offset)
    except FileNotFoundError:
        payload = b""
    except OSError as error:
        raise _unavailable(directory, error) from error
    if len(payload) != pointer.length or crc32(payload) != pointer.crc32:
        place = f"{path} at {pointer.offset}, {pointer.length} bytes"
        raise CrowError(Kind.CORRUPT, "picture_corrupt", f"{place}: missing or damaged")
    return payload


def _segment_path(directory: Path, segment: int) -> Path:
    return directory / f"{segment:012d}{_SUFFIX}"


def _write(descriptor: int, payloads: Sequence[bytes]) -> None:
    """Writes all of them: one system call, unless the kernel takes less at once."""
    written = os.writev(descriptor, payloads)
    for payload in payloads:
        rest = memoryview(payload)[written:]
        written = max(0, written - len(payload))
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _unavailable(directory: Path, error: OSError) -> CrowError:
    return CrowError(Kind.UNAVAILABLE, "store_unavailable", f"{directory}: {error.strerror or error}")
