"""What waited while the link was away: sealed epochs of the spool, drained beside the live stream, oldest first.

Invariants
1. One sealed epoch is on its way at a time.
2. An epoch that the receiver does not want blocks neither the live stream nor the epochs behind it; it is tried again
   with the next connection, and the reason is visible until then.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.lane import Lane
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

RETRY_S = 5.0
RATE_OVER_S = 30.0


class DrainRate:
    """How many frames a second are delivered, over the last `RATE_OVER_S` seconds. Pure: time is passed in."""

    def __init__(self) -> None:
        """Nothing was delivered yet."""
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, delivered_frames: int, now_s: float) -> float:
        """The rate, given how many frames have been delivered in all by now; 0 until two readings are apart."""
        while self._readings and now_s - self._readings[0][0] > RATE_OVER_S:
            self._readings.popleft()
        self._readings.append((now_s, delivered_frames))
        began_s, before = self._readings[0]
        return (delivered_frames - before) / (now_s - began_s) if now_s > began_s else 0.0


@dataclass(frozen=True, slots=True)
class BacklogStatus:
    """What of the backlog still waits. `drain_s` is None while nothing of it moves.

    `oldest_us` is the capture time of the first frame that waits, in microseconds since the Unix epoch.
    """

    frames: int
    oldest_us: int | None
    frames_per_s: float
    drain_s: float | None
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        return asdict(self)


class Backlog:
    """Drains sealed epochs over the connections that it is given."""

    def __init__(self, spool: SpoolThread, now_s: Callable[[], float]) -> None:
        """`now_s` is a monotonic clock."""
        self._spool = spool
        self._now_s = now_s
        self._sealed = asyncio.Event()
        self._rate = DrainRate()
        self._delivered_frames = 0  # over lanes that have ended
        self.lane: Lane | None = None  # the one that may send now
        self._error: str | None = None

    def sealed(self) -> None:
        """An epoch was sealed."""
        self._sealed.set()

    async def run(self, opened: Callable[[str], Awaitable[Lane]]) -> None:
        """Drains whatever is sealed, until cancelled. `opened` opens a lane for an epoch, or raises CrowError."""
        unwanted: set[str] = set()
        while True:
            self._sealed.clear()
            epochs = (await self._spool.call(Spool.epochs))[:-1]
            wanted = [epoch for epoch in epochs if epoch not in unwanted]
            if not unwanted & set(epochs):
                self._error = None
            if not wanted:
                await self._sealed.wait()
                continue
            try:
                delay_s = await self.drain(wanted[0], opened)
                await asyncio.sleep(delay_s or 0)
            except CrowError as error:
                log.warning("the backlog does not get through", error=error.message, retry_s=RETRY_S)
                self._error = error.message
                if error.kind in (Kind.CONFLICT, Kind.INVALID, Kind.UNSUPPORTED):
                    unwanted.add(wanted[0])
                else:
                    await asyncio.sleep(RETRY_S)

    async def drain(self, epoch: str, opened: Callable[[str], Awaitable[Lane]]) -> float | None:
        """Brings all of one sealed epoch to the receiver; raises and returns as `Lane.listen`."""
        lane = await opened(epoch)
        listening = asyncio.create_task(lane.listen())
        try:
            self.lane = lane
            self._spool.wake_uplink.set()
            delay_s = await listening
            if delay_s is None:
                log.info("backlog delivered", epoch=epoch, frames=lane.protocol.acknowledged_frames)
            return delay_s
        finally:
            self.lane = None
            self._delivered_frames += lane.protocol.acknowledged_frames
            lane.close()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def status(self) -> BacklogStatus | None:
        """What is left of it; None when nothing is sealed. Ask about once a second: the rate is measured by that."""

        def look(spool: Spool) -> tuple[int, int | None] | None:
            sealed = spool.epochs()[:-1]
            if not sealed:
                return None
            oldest = next((found for epoch in sealed if (found := spool.oldest(epoch))), None)
            frames = sum(sum(spool.waiting(epoch).values()) for epoch in sealed)
            return frames, oldest.capture_us if oldest else None

        moving = self.lane.protocol.acknowledged_frames if self.lane else 0
        rate = self._rate.read(self._delivered_frames + moving, self._now_s())
        found = await self._spool.call(look)
        if found is None:
            return None
        frames, oldest_us = found
        return BacklogStatus(frames, oldest_us, round(rate, 2), round(frames / rate, 1) if rate else None, self._error)
