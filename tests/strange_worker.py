"""A capture worker with cameras that do what foreign code can do to a process; all others are read as always.

The camera's name says what it does, some pictures after it was opened.
"""

import ctypes
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from crow_daemon.capture import checkpoint
from crow_daemon.capture.source import Picture, StreamInfo
from crow_daemon.registry.camera import Camera, RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.worker import session
from crow_daemon.worker.confinement import landlock_version
from crow_daemon.worker.main import main
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

HELD: list[bytearray] = []


def crash() -> None:
    """A segmentation fault in native code."""
    ctypes.string_at(8)


def hang() -> None:
    """Native code that never comes back, and keeps the interpreter's lock."""
    ctypes.PyDLL(None).sleep(1000)


def block() -> None:
    """Native code that never comes back; other threads go on."""
    checkpoint._REASONABLE_S[checkpoint.Phase.READING] = 3.0
    time.sleep(1000)


def spin() -> None:
    """Native code that never comes back and keeps a processor busy, as a decoder that runs in circles does."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def leak() -> None:
    """Takes memory and keeps it."""
    HELD.append(bytearray(b"x" * (32 << 20)))


def pry(path: Path) -> None:
    """Tries what a worker must not; tells of each attempt that succeeds."""
    sibling = int(path.name)
    attempts: dict[str, Callable[[], object]] = {
        "reads the registry": (path.parent / "cameras.db").read_bytes,
        "lists its directory": lambda: list(path.parent.iterdir()),
        "writes a file": lambda: (path.parent / "spoilt").write_bytes(b""),
        "writes a temporary file": lambda: Path("/tmp/spoilt").write_bytes(b""),
        "removes a file": (path.parent / "cameras.db.lock").unlink,
        "starts a program": lambda: subprocess.run(["/usr/bin/true"], check=True),
        "looks into the daemon": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "looks into a sibling": Path(f"/proc/{sibling}/mem").open,
    }
    if landlock_version() >= 6:
        attempts["signals the daemon"] = lambda: os.kill(os.getppid(), 0)
        attempts["signals a sibling"] = lambda: os.kill(sibling, 0)
    done = [what for what, attempt in attempts.items() if _succeeds(attempt)]
    raise CrowError(Kind.UNAVAILABLE, "pried", f"done: {done} of {len(attempts)}")


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return False
    return True


DEEDS: dict[str, Callable[[], None]] = {deed.__name__: deed for deed in (crash, hang, block, spin, leak)}


class StrangeSource:
    """A camera that does its deed a second after it was opened."""

    clock_jumps = 0
    why = ""

    def __init__(self, deed: Callable[[], None]) -> None:
        self._deed = deed
        self._stop = threading.Event()

    def open(self) -> StreamInfo:
        return StreamInfo("strange", 320, 240, None)

    def pictures(self) -> Iterator[Picture | None]:
        self._stop.wait(1)
        while not self._stop.is_set():
            self._deed()
            yield None

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        pass


def source_of(
    camera: Camera, credentials: Credentials | None, clock: Clock, last_capture_us: session.LastCapture
) -> session.OpenSource:
    if camera.name == "pry":
        assert isinstance(camera.source, RtspAddress)
        return lambda: StrangeSource(partial(pry, Path(urlsplit(camera.source.url.text).path)))
    if deed := DEEDS.get(camera.name):
        return lambda: StrangeSource(deed)
    return session.source_of(camera, credentials, clock, last_capture_us)


if __name__ == "__main__":
    main(source_of)
