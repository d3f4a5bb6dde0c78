"""What a capture worker gives up before it meets the bytes of a camera; the first two on Linux alone.

1. It dies with the daemon, even by `kill -9`.
2. It gains no rights by starting a program (no_new_privs).
3. It writes no core dump: that would hold passwords and pictures.
4. The kernel refuses it memory beyond its bound.
"""

import ctypes
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def confine() -> None:
    """Gives up what no worker needs. Raises OSError when the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(limit_bytes: int) -> None:
    """All that is asked for beyond this fails from now on. Threads' stacks count in full."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} is refused")
