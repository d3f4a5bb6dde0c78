"""The one thread that uses the spool, and the bounded hand-over of fresh frames into it.

Invariants
1. Every use of the Spool happens on this thread, but for two questions that it answers to any.
2. There is room for more until `MAX_WAITING_FRAMES` fresh frames or `MAX_WAITING_BYTES` wait in memory; after that,
   `refusal` says why there is none. What is offered nevertheless is taken, since it was asked for while there was
   room: so nothing that was promised is refused, and memory stays bounded however slow the disk is.
3. A frame leaves the waiting line only after `Spool.append` has returned. When the disk refuses, the same frames are
   tried again, and the trouble is visible until it ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import structlog

from crow_daemon.capture.outcome import Dropped
from crow_daemon.spool.spool import Spool
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame

log = structlog.get_logger()

MAX_WAITING_FRAMES = 256
MAX_WAITING_BYTES = 64 << 20
GROUP_FRAMES = 64  # one fsync for up to so many frames
GROUP_BYTES = 8 << 20  # give or take one frame
RETRY_S = 2.0

Result = TypeVar("Result")


class SpoolThread:
    """Runs work on the spool in a thread of its own, for an event loop."""

    def __init__(
        self, open_spool: Callable[[], Spool], spooled: Callable[[Sequence[Frame]], None] | None = None
    ) -> None:
        """`spooled` is told of frames that have got their numbers, on this thread, before anything else is done."""
        self._open = open_spool
        self._spooled = spooled
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._spool: Spool | None = None
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._fresh = asyncio.Event()
        self._finishing = False
        # Set after each append, and by whoever else lets the uplink go on; the uplink, its one waiter, clears it.
        self.wake_uplink = asyncio.Event()
        self._refused: CrowError | None = None  # why the disk does not take frames

    @property
    def trouble(self) -> str | None:
        """What the disk refuses, in words."""
        if self._refused is not None:
            return self._refused.message
        return None if self._spool is None else self._spool.trouble

    @property
    def refusal(self) -> Dropped:
        """Why `offer` says no at present."""
        if self._refused is None:
            return Dropped.OVERLOAD
        return Dropped.SPOOL_FULL if self._refused.kind is Kind.EXHAUSTED else Dropped.SPOOL_UNAVAILABLE

    async def start(self) -> None:
        """Opens the spool. Raises CrowError(UNAVAILABLE) when it cannot be used."""
        self._spool = await asyncio.get_running_loop().run_in_executor(self._pool, self._open)

    async def call(self, work: Callable[[Spool], Result]) -> Result:
        """Runs `work` on the spool's thread. Raises CrowError when the disk refuses."""
        spool = self._spool
        assert spool is not None, "started"
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, spool)

    @property
    def has_room(self) -> bool:
        """Whether more frames may be asked for."""
        return len(self._waiting) < MAX_WAITING_FRAMES and self._waiting_bytes < MAX_WAITING_BYTES

    @property
    def takes_recordings(self) -> bool:
        """Whether frames of recordings may be asked for, too: until the spool is half full.

        A recording can be read later, and must not push out what live cameras saw.
        """
        assert self._spool is not None, "started"
        return not self._spool.half_full

    def offer(self, frame: Frame) -> bool:
        """Takes a fresh frame, on the event loop; False after `finish`."""
        if self._finishing:
            return False
        self._waiting.append(frame)
        self._waiting_bytes += len(frame.payload)
        self._fresh.set()
        return True

    def last_capture_us(self, camera_id: str) -> int | None:
        """The capture time of the camera's last frame that was taken over; None while there was none.

        It is durable as soon as the frame is: a recording that was interrupted goes on behind it.
        """
        assert self._spool is not None, "started"
        for frame in reversed(self._waiting):  # it leaves the line after the spool has it, so it is in one of the two
            if frame.camera_id == camera_id:
                return frame.capture_us
        return self._spool.last_capture_us(camera_id)

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

    async def let_go_aged(self) -> None:
        """Gives up what has waited for too long; to be called now and then, since `append` alone may not come."""
        try:
            await self.call(Spool.let_go_aged)
        except CrowError as error:
            log.warning("frames past their age cannot be let go", error=error.message)

    def finish(self) -> None:
        """No more frames are taken: `write_offered` may end."""
        self._finishing = True
        self._fresh.set()

    async def _store(self, group: list[Frame]) -> None:
        try:
            await self.call(lambda spool: self._append(spool, group))
        except CrowError as error:
            if self._refused is None or self._refused.message != error.message:
                log.error("spool does not take frames", error=error.message, waiting=self.waiting)
            self._refused = error
            await asyncio.sleep(RETRY_S)
            return
        if self._refused is not None:
            log.info("spool takes frames again")
        self._refused = None
        for _ in group:
            self._waiting_bytes -= len(self._waiting.popleft().payload)
        self.wake_uplink.set()

    def _append(self, spool: Spool, group: Sequence[Frame]) -> None:
        numbered = spool.append(group)
        if self._spooled is not None:
            self._spooled(numbered)

    def _group(self) -> list[Frame]:
        group: list[Frame] = []
        group_bytes = 0
        for frame in islice(self._waiting, GROUP_FRAMES):
            group.append(frame)
            group_bytes += len(frame.payload)
            if group_bytes >= GROUP_BYTES:
                break
        return group

    async def close(self) -> None:
        """Closes the spool and ends the thread."""
        if self._spool is not None:
            await self.call(Spool.close)
            self._spool = None
        self._pool.shutdown()
