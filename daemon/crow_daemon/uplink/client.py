"""Keeps the receiver connected, and decides what goes up first.

Invariants
1. Whatever ends a connection, the next one resumes from what the receiver says, after a jittered delay. The delay grows
   with each connection that delivered nothing: a receiver that says Welcome and takes no frame is not hammered.
2. The live lane goes before the backlog: nothing of the backlog is read while the live lane has something to send.
3. With `live_first`, frames that have waited for `LIVE_WITHIN_S` stand in no fresh one's way: their epoch is sealed and
   becomes the backlog; at most once in `SEAL_EVERY_S`, and only while the receiver takes frames.
4. With `in_order` nothing is sealed, and what is sealed is delivered before the live lane opens.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import grpc
import structlog

from crow_daemon.settings import UplinkOrder, UplinkSettings
from crow_daemon.spool.accounts import CameraMark
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.backlog import Backlog, BacklogStatus
from crow_daemon.uplink.connection import Dialer
from crow_daemon.uplink.lane import Lane
from crow_daemon.uplink.ledger import Ledger, LedgerTelling
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.protocol import Announced, HelloCamera, Identity, PaceAsked, SenderProtocol
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
LIVE_WITHIN_S = 30.0
SEAL_EVERY_S = 60.0
LOOK_EVERY_S = 1.0


class Uplink:
    """The connection to the receiver, for ever renewed."""

    def __init__(
        self,
        settings: UplinkSettings,
        identity: Callable[[str], Identity],
        cameras: Callable[[], list[Announced]],
        spool: SpoolThread,
        paced: Callable[[Mapping[str, int]], None],
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        """`identity` is asked for each epoch of the spool; `cameras` yields all registered ones.

        `paced` is told the sample intervals in ms that the receiver asks for now, by camera id: all of them, each time
        that one changes; none once the stream has ended.
        """
        self._settings = settings
        self._clock = clock
        self._dialer = Dialer(settings)
        self._identity = identity
        self._cameras = cameras
        self._spool = spool
        self._paced = paced
        self._paces: dict[str, int] = {}
        self._renew = asyncio.Event()  # the live lane has to open anew: other cameras, or another epoch
        self._backlog = Backlog(spool, clock.monotonic_s)
        self._ledger = LedgerTelling(ledger, spool.wake_uplink.set, clock)
        self._live: Lane | None = None
        self._sealed_s = float("-inf")
        self.state = "connecting"
        self.last_error: str | None = None
        self.last_error_code: str | None = None

    @property
    def window_frames(self) -> int | None:
        """How many unacknowledged frames the receiver takes now, 0: none for a while; None without a connection."""
        lane = self._live or self._backlog.lane
        return None if lane is None else lane.protocol.window_frames

    async def backlog(self) -> BacklogStatus | None:
        """What waited while the link was away, and when it will be through; None when there is none."""
        return await self._backlog.status()

    def reannounce(self) -> None:
        """Opens the live stream anew, so that the receiver hears of changed cameras; nothing is lost by it."""
        self._renew.set()

    def tell_ledger(self) -> None:
        """Tells what there is of the sample ledger now, not only when it is due."""
        self._ledger.is_due()

    async def run(self) -> None:
        """Connects, sends, and connects again, until cancelled."""
        failures = 0
        while True:
            delay_s = 0.0
            link, began_s = LinkWindow(), self._clock.monotonic_s()
            try:
                delay_s = await self._run_once(link)
                failures = 0
            except CrowError as error:
                lasted = self.state == "connected" and self._clock.monotonic_s() - began_s > BACKOFF_MOST_S
                failures = 0 if lasted or link.delivers else failures + 1
                delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures, 8)) * random.uniform(0.5, 1)  # noqa: S311 — jitter
                if error.message != self.last_error or self.state == "connected":
                    log.warning("uplink lost", error=error.message, kind=error.kind, retry_s=round(delay_s, 1))
                self.last_error, self.last_error_code = error.message, error.code
            self.state = "waiting"
            await asyncio.sleep(delay_s)

    async def _run_once(self, link: LinkWindow) -> float:
        """One connection, until it ends; returns the delay that the receiver asked for, in seconds."""
        self.state = "connecting"
        async with self._dialer.channel() as channel:

            async def opened(epoch: str) -> Lane:
                return await self._opened(channel, link, epoch, backlog=True)

            tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._ledger.run())]
            try:
                if self._settings.order is UplinkOrder.IN_ORDER:
                    for epoch in (await self._spool.call(Spool.epochs))[:-1]:
                        draining = asyncio.create_task(self._backlog.drain(epoch, opened))
                        delay_s = await _unless_failed(draining, tasks)
                        if delay_s is not None:
                            return delay_s
                while True:
                    self._renew.clear()
                    epoch = (await self._spool.call(Spool.epochs))[-1]
                    lane = await self._opened(channel, link, epoch, backlog=False)
                    if await self._seal_when_late(lane):
                        lane.close()
                        continue
                    if len(tasks) == 2 and self._settings.order is UplinkOrder.LIVE_FIRST:
                        tasks += [asyncio.create_task(self._backlog.run(opened)), asyncio.create_task(self._look())]
                    delay_s = await _unless_failed(asyncio.create_task(self._live_until_renewed(lane)), tasks)
                    if delay_s is not None:
                        return delay_s
            finally:
                await _cancelled(*tasks)

    async def _live_until_renewed(self, lane: Lane) -> float | None:
        """Runs the live lane. Returns None when it has to be opened anew; else returns and raises as `Lane.listen`."""
        listening = asyncio.create_task(lane.listen())
        renew = asyncio.create_task(self._renew.wait())
        try:
            self._live = lane
            self._ledger.is_due()
            await asyncio.wait({listening, renew}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                return listening.result()
            log.info("opening the stream anew: cameras or the epoch have changed")
            await lane.leave(listening)
            return None
        finally:
            self._live = None
            self._paces.clear()
            self._paced(self._paces)
            lane.close()
            await _cancelled(listening, renew)

    async def _opened(self, channel: grpc.aio.Channel, link: LinkWindow, epoch: str, *, backlog: bool) -> Lane:
        cameras = await self._hello_cameras(epoch, backlog=backlog)
        epochs = await self._spool.call(Spool.epochs)
        previous = next((before for before, after in pairwise(epochs) if after == epoch), "")
        protocol = SenderProtocol(
            self._identity(epoch), cameras, link, self._clock.monotonic_s, backlog=backlog, previous_epoch=previous
        )
        lane = Lane(
            self._spool,
            epoch,
            protocol,
            unannounced=self._renew.set,
            paced=self._pace,
            ledger_kept=self._ledger.kept,
        )
        try:
            await lane.open(channel)
        except BaseException:
            lane.close()
            raise
        if self.state != "connected":
            self.state, self.last_error, self.last_error_code = "connected", None, None
            log.info("uplink connected", receiver=self._settings.receiver, cameras=len(cameras))
        return lane

    async def _send(self) -> None:
        """Sends whatever may be sent, the live lane first."""
        while True:
            self._spool.wake_uplink.clear()
            live, backlog = self._live, self._backlog.lane
            if live is not None and (await self._ledger.send(live) or await live.send()):
                continue
            if backlog is not None and await backlog.send():
                continue
            await self._spool.wake_uplink.wait()

    async def _look(self) -> None:
        """Looks for frames that wait for too long beside the live lane."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._live is not None and await self._seal_when_late(self._live):
                self._renew.set()

    async def _seal_when_late(self, lane: Lane) -> bool:
        """Seals the live lane's epoch when its first frame has waited for too long; whether it did."""
        now_s = self._clock.monotonic_s()
        too_soon = now_s - self._sealed_s < SEAL_EVERY_S
        if self._settings.order is UplinkOrder.IN_ORDER or too_soon or not lane.protocol.window_frames:
            return False
        before_us = self._clock.now_us() - int(LIVE_WITHIN_S * 1_000_000)

        def seal(spool: Spool) -> bool:
            oldest = spool.oldest(lane.epoch)
            return oldest is not None and oldest.spooled_us < before_us and spool.start_epoch() != lane.epoch

        try:
            if not await self._spool.call(seal):
                return False
        except CrowError as error:  # what waits is readable all the same, and goes up in order
            log.warning("late frames cannot be set apart from fresh ones", error=error.message)
            self._sealed_s = now_s
            return False
        self._sealed_s = now_s
        log.info("frames have waited for too long: they go up as backlog, beside what is seen now")
        self._backlog.sealed()
        return True

    async def _hello_cameras(self, epoch: str, *, backlog: bool) -> list[HelloCamera]:
        marks = {mark.camera_id: mark for mark in await self._spool.call(lambda spool: spool.marks(epoch))}
        known = {camera.camera_id: camera for camera in self._cameras()}
        if backlog:
            known = {name: replace(known[name], idle=True) for name in marks if name in known}
        # Cameras that were removed while numbers of theirs are open are announced too: their frames count.
        known |= {
            name: Announced(name, name, 0, idle=True)
            for name, mark in marks.items()
            if mark.acked_seq < mark.last_seq and name not in known
        }
        fresh = CameraMark("", 0, 0)
        return [
            HelloCamera(camera, mark.last_seq, mark.acked_seq)
            for name, camera in known.items()
            for mark in (marks.get(name, fresh),)
        ]

    def _pace(self, asked: PaceAsked) -> None:
        log.info("receiver asks for another pace", camera=asked.camera_id, interval_ms=asked.sample_interval_ms)
        self._paces[asked.camera_id] = asked.sample_interval_ms
        if not asked.sample_interval_ms:
            del self._paces[asked.camera_id]
        self._paced(self._paces)


async def _unless_failed(work: "asyncio.Task[float | None]", others: "list[asyncio.Task[None]]") -> float | None:
    """The outcome of `work`; it is given up, with their error, when one of `others` fails."""
    try:
        await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
        for ended in (task for task in others if task.done()):
            ended.result()
        return work.result()
    finally:
        await _cancelled(work)


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
