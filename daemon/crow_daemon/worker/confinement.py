"""What a capture worker gives up before it meets the bytes of a camera; all but memory and dumps on Linux alone.

1. It dies with the daemon, even by `kill -9`.
2. It gains no rights by starting a program (no_new_privs).
3. It writes no core dump, and no other process of its user may look into it: it holds passwords and pictures.
4. The kernel refuses it memory beyond its bound.
5. It reads no file but those of the system and of its own program, the detector's model and the recordings that it was
   started for; writes none, starts no program, and neither signals nor looks into the daemon and other workers. By
   Landlock (https://docs.kernel.org/userspace-api/landlock.html), so from kernel 5.13 on; signals from 6.12 on.
"""

import ctypes
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

# System calls have these numbers on all machines that we know of.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # asks for Landlock's version alone
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_RIGHTS_BITS = {1: 13, 2: 14}  # of files and directories, by version: execute, write, read, list, remove, make …
_RIGHTS_BITS_NOW = 15  # … truncate
_SCOPES_FROM, _SCOPES = 6, 0b11  # no abstract sockets of others, no signals to them

# Names are looked up by what lies in /etc and by resolvers' files under /run, which change while a worker lives. /sys
# and some of /proc tell libraries of the machine; what /proc has of other processes stays closed, to root's worker too.
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/sys", "/run/systemd/resolve", "/run/NetworkManager")
_PROC = ("self", "cpuinfo", "meminfo", "stat", "devices", "modules", "driver", "sys")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", *map(str, Path("/dev").glob("nvidia*")))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32))


def confine() -> None:
    """Gives up what no worker needs. Raises OSError when the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_DUMPABLE, 0)


def limit_memory(limit_bytes: int) -> None:
    """All that is asked for beyond this fails from now on. Threads' stacks count in full."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def landlock_version() -> int:
    """What the kernel has of Landlock; 0 where files stay open to workers."""
    return max(0, _libc().syscall(_CREATE_RULESET, None, 0, _VERSION)) if sys.platform == "linux" else 0


def limit_files(readable: Iterable[str]) -> None:
    """Allows reading the system, this program and these files, and nothing else, for good; where there is Landlock.

    Before any other thread starts: those that run already would stay as they are. Raises OSError when the kernel
    refuses.
    """
    if not (version := landlock_version()):
        return
    rights = (1 << _RIGHTS_BITS.get(version, _RIGHTS_BITS_NOW)) - 1
    asked = _Ruleset(rights, 0, _SCOPES if version >= _SCOPES_FROM else 0)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(asked), ctypes.sizeof(asked), 0)
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    program = (sys.prefix, sys.base_prefix, *sys.path, *libraries)
    for path in filter(None, (*_SYSTEM, *(f"/proc/{name}" for name in _PROC), *program, *readable)):
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    for path in _DEVICES:
        _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """What is not there needs no rule, and gets none when it comes."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= ~_READ_DIR
    rule = _PathBeneath(rights, place)
    _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    found: int = _libc().syscall(number, *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"system call {number} is refused")
    return found


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} is refused")
