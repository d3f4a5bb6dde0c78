"""The head of a GGUF file: what a model says of itself, read within bounds and without loading it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crow_receiver.models.store import disk_errors
from crow_shared.errors import CrowError, Kind

Value = int | float | bool | str

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_KEYS = 4096
_MOST_KEY_BYTES = 65_535
_MOST_TEXT_BYTES = 1 << 20
_MOST_ITEMS = 1 << 22
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`values` are those that are no arrays, `lengths` the numbers of items of those that are."""

    path: Path
    file_bytes: int
    values: dict[str, Value]
    lengths: dict[str, int]

    def number(self, key: str, otherwise: int | None = None) -> int:
        """A whole number of the header. Raises CrowError(INVALID) where there is none, and no `otherwise` is given."""
        value = self.values.get(key, otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CrowError(Kind.INVALID, "bad_model", f"{self.path} has no number {key} in its header")
        return value


def read_header(path: Path) -> GgufHeader:
    """The head of a file. Raises CrowError: INVALID for a file that is no GGUF, NOT_FOUND or UNAVAILABLE without it."""
    with disk_errors(path), path.open("rb") as file:
        file_bytes = path.stat().st_size
        try:
            values, lengths = _read(file)
        except (struct.error, ValueError) as error:
            raise CrowError(Kind.INVALID, "bad_model", f"{path} is no GGUF file that can be read: {error}") from None
    return GgufHeader(path, file_bytes, values, lengths)


def _read(file: BinaryIO) -> tuple[dict[str, Value], dict[str, int]]:
    if file.read(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version, _tensors, keys = struct.unpack("<IQQ", _exactly(file, 20))
    if version not in _VERSIONS:
        raise ValueError(f"it has version {version}")
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(_within(keys, _MOST_KEYS)):
        key = _text(file, _MOST_KEY_BYTES)
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        if kind == _ARRAY:
            lengths[key] = _skip_array(file)
        else:
            values[key] = _value(file, kind)
    return values, lengths


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _text(file, _MOST_TEXT_BYTES)
    form = "<" + _scalar(kind)
    value: Value = struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]
    return value


def _skip_array(file: BinaryIO) -> int:
    kind, items = struct.unpack("<IQ", _exactly(file, 12))
    _within(items, _MOST_ITEMS)
    if kind == _STRING:
        for _ in range(items):
            _exactly(file, _within(struct.unpack("<Q", _exactly(file, 8))[0], _MOST_TEXT_BYTES))
    else:
        file.seek(items * struct.calcsize("<" + _scalar(kind)), 1)
    return int(items)


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"a value has the unknown type {kind}")
    return _SCALARS[kind]


def _text(file: BinaryIO, most_bytes: int) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    return _exactly(file, _within(length, most_bytes)).decode("utf-8", "replace")


def _exactly(file: BinaryIO, size_bytes: int) -> bytes:
    data = file.read(size_bytes)
    if len(data) < size_bytes:
        raise ValueError("it ends within its header")
    return data


def _within(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"it says {count} where {most} is the most")
    return int(count)
