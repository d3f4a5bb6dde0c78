"""Recording what processes do to a directory, in order: `disk_log.c` preloaded into them, and its log read back."""

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("disk_log.c")
SYNC_US = 300  # long enough for other threads to write while one of them syncs
_RECORD = struct.Struct("<IIQQII")
_MAGIC = 0x4B534944


class Op(IntEnum):
    """As in disk_log.c; PROMISE is written by tests: something that must hold after every later power cut."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    ZERO = 4
    SYNC = 5
    SYNC_DIRECTORY = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    UNSEEN = 11
    PROMISE = 100


@dataclass(frozen=True, slots=True)
class Record:
    """One operation; `file` is an inode number, `offset` in bytes, or the new size of a TRUNCATE."""

    op: Op
    file: int
    offset: int
    path: str
    data: bytes

    @property
    def promised(self) -> Any:
        """What a PROMISE says."""
        return json.loads(self.data)


class DiskLog:
    """The log of one or more processes that work under `root`."""

    def __init__(self, log: Path, root: Path, shim: Path) -> None:
        self.log, self.root = log, root.resolve()
        self.environ: Mapping[str, str] = {
            "LD_PRELOAD": str(shim),
            "DISK_LOG": str(log),
            "DISK_LOG_ROOT": str(self.root),
            "DISK_LOG_SYNC_US": str(SYNC_US),
        }

    def records(self) -> Iterator[Record]:
        """Everything logged, in order."""
        raw = memoryview(self.log.read_bytes())
        at = 0
        while at < len(raw):
            magic, op, file, offset, path_bytes, data_bytes = _RECORD.unpack_from(raw, at)
            assert magic == _MAGIC, f"the log is damaged at byte {at}"
            at += _RECORD.size
            path = bytes(raw[at : at + path_bytes]).decode()
            at += path_bytes
            yield Record(Op(op), file, offset, path, bytes(raw[at : at + data_bytes]))
            at += data_bytes


def promise(log: Path, what: Any) -> None:
    """Appends a promise to the log, after everything that has happened so far."""
    data = json.dumps(what).encode()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, _RECORD.pack(_MAGIC, Op.PROMISE, 0, 0, 0, len(data)) + data)
    finally:
        os.close(descriptor)


def compiled_shim(directory: Path) -> Path:
    """The shim as a shared library. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the file system shim")
    shim = directory / "disk_log.so"
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, *flags, "-o", shim, SOURCE], check=True)
    return shim
