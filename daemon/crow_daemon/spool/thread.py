"""The one thread that uses the spool, and the bounded hand-over of fresh frames into it.

Invariants
1. Every use of the Spool happens on this thread.
2. At most `MAX_WAITING_FRAMES` fresh frames wait in memory. When it is full, `offer` says no and the camera counts the
   sample as dropped: memory stays bounded however slow the disk is.
3. A frame leaves the waiting line only after `Spool.append` has returned. When the disk refuses, the same frames are
   tried again, and the trouble is visible until it ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import structlog

from crow_daemon.spool.spool import Spool
from crow_shared.errors import CrowError
from crow_shared.frame import Frame, TimeSource

log = structlog.get_logger()

MAX_WAITING_FRAMES = 256
GROUP_FRAMES = 64  # one fsync for up to so many frames
RETRY_S = 2.0

Result = TypeVar("Result")


class SpoolThread:
    """Runs work on the spool in a thread of its own, for an event loop."""

    def __init__(self, open_spool: Callable[[], Spool]) -> None:
        self._open = open_spool
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._spool: Spool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = Lock()  # guards _waiting, which capture threads fill, and _finishing
        self._waiting: deque[Frame] = deque()
        self._fresh = asyncio.Event()
        self._finishing = False
        self.stored = asyncio.Event()  # set after each append; whoever waits for it clears it
        self.trouble: str | None = None

    async def start(self) -> None:
        """Opens the spool. Raises CrowError(UNAVAILABLE) when it cannot be used."""
        self._loop = asyncio.get_running_loop()
        self._spool = await self._loop.run_in_executor(self._pool, self._open)

    async def call(self, work: Callable[[Spool], Result]) -> Result:
        """Runs `work` on the spool's thread. Raises CrowError when the disk refuses."""
        spool = self._spool
        assert spool is not None, "started"
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, spool)

    def offer(self, frame: Frame) -> bool:
        """Takes a fresh frame from any thread; False when too many wait already, and after `finish`.

        A recording's frame is not taken while the spool is half full, either: a recording can be read later, and must
        not push out what live cameras saw.
        """
        assert self._spool is not None, "started"
        if frame.time_source is TimeSource.RECORDING and self._spool.half_full:
            return False
        with self._lock:
            if self._finishing or len(self._waiting) >= MAX_WAITING_FRAMES:
                return False
            self._waiting.append(frame)
        assert self._loop is not None, "started"
        self._loop.call_soon_threadsafe(self._fresh.set)
        return True

    @property
    def waiting(self) -> int:
        """Frames that were offered and are not stored yet."""
        return len(self._waiting)

    async def write_offered(self) -> None:
        """Stores offered frames in groups, until `finish` has been called and none waits."""
        while not self._finishing or self._waiting:
            await self._fresh.wait()
            self._fresh.clear()
            while group := self._group():
                await self._store(group)

    def finish(self) -> None:
        """No more frames are taken: `write_offered` may end."""
        with self._lock:
            self._finishing = True
        self._fresh.set()

    async def _store(self, group: list[Frame]) -> None:
        try:
            await self.call(lambda spool: spool.append(group))
        except CrowError as error:
            if self.trouble != error.message:
                log.error("spool does not take frames", error=error.message, waiting=self.waiting)
            self.trouble = error.message
            await asyncio.sleep(RETRY_S)
            return
        if self.trouble:
            log.info("spool takes frames again")
        self.trouble = None
        with self._lock:
            for _ in group:
                self._waiting.popleft()
        self.stored.set()

    def _group(self) -> list[Frame]:
        with self._lock:
            return [self._waiting[index] for index in range(min(GROUP_FRAMES, len(self._waiting)))]

    async def close(self) -> None:
        """Closes the spool and ends the thread."""
        if self._spool is not None:
            await self.call(Spool.close)
            self._spool = None
        self._pool.shutdown()
