"""How this process's memory is taken from the system: in larger pieces, and given back later.

Each frame passes through several buffers of its size. By default glibc gives memory at the top of the heap back as soon
as 128 KiB are free there, so that every buffer is mapped, cleared page by page and unmapped anew.
"""

import ctypes

# From malloc.h, with bytes. A message's buffers are below the first; the second is what a process may keep for nothing.
_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 8 << 20
_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 64 << 20
_M_TOP_PAD, TOP_PAD_BYTES = -2, 16 << 20


def keep_freed_memory() -> bool:
    """Tunes malloc, once, at the start of a service; whether this C library can be tuned: glibc can, musl cannot."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (_M_TOP_PAD, TOP_PAD_BYTES),
    )
    taken = [mallopt(parameter, value) for parameter, value in settings]
    return all(taken)
