"""The bytes of a segment file: records, and how they are found again after damage.

A record is `head | header | payload`. The head is a magic number, the header's length and a CRC-32; the header is a
protobuf RecordHeader; a payload follows frames alone, and its length and CRC-32 are in the header. So a scan reads
headers and skips pictures.

The CRC-32 of a head covers the record's own place (segment and offset) as well as its header. A record is therefore
valid only where it was written: neither blocks of a deleted file that a file system brings back after a power cut, nor
bytes inside a picture that look like a record, are taken for one.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from google.protobuf.message import DecodeError

from crow.spool.v1 import segment_pb2 as pb

MAGIC = b"\x93crow\r\n\x1a"
MAX_HEADER_BYTES = 16 << 20  # a segment's start grows with cameras and holes; nothing else comes near
SUFFIX = ".seg"

_HEAD = struct.Struct("<8sII")  # magic, header's length in bytes, CRC-32 of place and header
_PLACE = struct.Struct("<QQI")  # segment, offset, header's length
_GUESS_BYTES = 1024  # most headers are within their first so many bytes
_SEARCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """A valid record; offsets in bytes from the segment's start. Its payload lies from `payload_offset` to `end`."""

    offset: int
    payload_offset: int
    end: int
    header: pb.RecordHeader


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no valid record, up to the next one or the end of the file."""

    offset: int
    end: int


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment lies."""
    return directory / f"{number:012d}{SUFFIX}"


def segment_numbers(directory: Path) -> list[int]:
    """The segments of a directory, oldest first. Raises OSError."""
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}") if path.stem.isdecimal())


def encoded(header: pb.RecordHeader, segment: int, offset: int) -> bytes:
    """Head and header of a record at its place; a frame's payload comes right behind."""
    body = header.SerializeToString()
    return _HEAD.pack(MAGIC, len(body), _checksum(body, segment, offset)) + body


def scan(descriptor: int, segment: int, end: int) -> Iterator[Record | Damage]:
    """The records of an open segment file in order, up to the offset `end`. Raises OSError when it cannot be read."""
    offset = 0
    while offset < end:
        record = _record_at(descriptor, segment, offset, end)
        if record is not None:
            yield record
            offset = record.end
            continue
        damaged_from = offset
        while record is None:
            offset = _next_magic(descriptor, offset + 1, end)
            if offset == end:
                break
            record = _record_at(descriptor, segment, offset, end)
        yield Damage(damaged_from, offset)


def _record_at(descriptor: int, segment: int, offset: int, end: int) -> Record | None:
    start = os.pread(descriptor, min(_GUESS_BYTES, end - offset), offset)
    if len(start) < _HEAD.size or not start.startswith(MAGIC):
        return None
    _, length, checksum = _HEAD.unpack_from(start)
    payload_offset = offset + _HEAD.size + length
    if length > MAX_HEADER_BYTES or payload_offset > end:
        return None
    body = start[_HEAD.size : _HEAD.size + length]
    if len(body) < length:
        body = os.pread(descriptor, length, offset + _HEAD.size)
    if _checksum(body, segment, offset) != checksum:
        return None
    try:
        header = pb.RecordHeader.FromString(body)
    except DecodeError:
        return None
    record_end = payload_offset + header.frame.payload_bytes
    return Record(offset, payload_offset, record_end, header) if record_end <= end else None


def _next_magic(descriptor: int, offset: int, end: int) -> int:
    """Where the next magic number begins, or `end`."""
    while offset < end:
        chunk = os.pread(descriptor, min(_SEARCH_BYTES, end - offset), offset)
        found = chunk.find(MAGIC)
        if found >= 0:
            return offset + found
        if len(chunk) < len(MAGIC):
            break
        offset += len(chunk) - len(MAGIC) + 1
    return end


def _checksum(body: bytes, segment: int, offset: int) -> int:
    return crc32(body, crc32(_PLACE.pack(segment, offset, len(body))))
