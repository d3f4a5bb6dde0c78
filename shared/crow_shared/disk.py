"""What our stores ask of the disk beyond the standard library: directories that stay, with one owner; bytes that go."""

import ctypes
import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from crow_shared.errors import CrowError, Kind

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
_ZEROS = bytes(1 << 20)


def make_directory(directory: Path) -> None:
    """Makes a directory with those above it, private, their entries durable: a file in it is no safer than they are.

    Raises OSError when they cannot be made.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        # By one who may have been killed before the sync. A disk that refuses this will refuse what is promised, too.
        with suppress(OSError):
            _sync_directory(directory.parent)
    except FileNotFoundError:
        make_directory(directory.parent)
        make_directory(directory)
    else:
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked_directory(directory: Path) -> int:
    """A descriptor of the directory that holds its lock until it is closed or the process ends.

    Raises CrowError(CONFLICT) when another process has it, OSError when it cannot be opened.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CrowError(Kind.CONFLICT, "store_in_use", f"{directory} is in use by another process") from None
    return descriptor


def overwrite(descriptor: int, offset: int, length: int) -> None:
    """Makes bytes of a file read as zeros; durable after a sync of it. Raises OSError.

    Their blocks are given back where the file system can (which needs no free space), else zeros are written over them.
    """
    if not length:
        return
    ctypes.set_errno(0)
    if _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return
    if ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    while length:
        written = os.pwrite(descriptor, _ZEROS[:length], offset)
        offset, length = offset + written, length - written


_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", _libc.fallocate)
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate.restype = ctypes.c_int
