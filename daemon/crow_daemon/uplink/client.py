"""Keeps one stream to the receiver open and moves frames from the spool through it.

Invariants
1. A frame is forgotten by the spool only after the receiver acknowledged or refused it.
2. Memory holds at most one read of `READ_FRAMES` frames; a slow receiver slows the reading of the spool.
3. Whatever ends a connection, the next one resumes from what the receiver says, after a jittered delay.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping

import grpc
import structlog

from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.settings import UplinkSettings
from crow_daemon.spool.accounts import CameraMark, Hole, HoleReason
from crow_daemon.spool.spool import START, Spool, SpooledFrame
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.connection import Call, Dialer, read, translated
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.protocol import (
    Announced,
    Draining,
    Event,
    HelloCamera,
    Identity,
    PaceAsked,
    Refused,
    Released,
    SenderProtocol,
)
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

READ_FRAMES = 16
WELCOME_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0


class Uplink:
    """The connection to the receiver, for ever renewed."""

    def __init__(
        self,
        settings: UplinkSettings,
        identity: Callable[[str], Identity],
        cameras: Callable[[], list[Announced]],
        spool: SpoolThread,
        paced: Callable[[Mapping[str, int]], None],
    ) -> None:
        """`identity` is asked for each epoch of the spool; `cameras` yields all registered ones.

        `paced` is told the sample intervals in ms that the receiver asks for now, by camera id: all of them, each time
        that one changes; none once the stream has ended.
        """
        self._settings = settings
        self._dialer = Dialer(settings)
        self._identity = identity
        self._cameras = cameras
        self._spool = spool
        self._paced = paced
        self._paces: dict[str, int] = {}
        self._reannounce = asyncio.Event()
        self.state = "connecting"
        self.last_error: str | None = None
        self.last_error_code: str | None = None
        self._protocol: SenderProtocol | None = None

    @property
    def window_frames(self) -> int | None:
        """How many unacknowledged frames the receiver takes now, 0: none for a while; None without a connection."""
        return None if self._protocol is None else self._protocol.window_frames

    def reannounce(self) -> None:
        """Connects anew, so that the receiver hears of changed cameras; nothing is lost by it."""
        self._reannounce.set()

    async def run(self) -> None:
        """Connects, sends, and connects again, until cancelled."""
        failures = 0
        while True:
            delay_s = 0.0
            try:
                delay_s = await self._run_once()
                failures = 0
            except CrowError as error:
                failures = 0 if self.state == "connected" else failures + 1
                delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures, 8)) * random.uniform(0.5, 1)  # noqa: S311 — jitter
                if error.message != self.last_error or self.state == "connected":
                    log.warning("uplink lost", error=error.message, kind=error.kind, retry_s=round(delay_s, 1))
                self.last_error, self.last_error_code = error.message, error.code
            self.state = "waiting"
            await asyncio.sleep(delay_s)

    async def _run_once(self) -> float:
        """One connection, until it ends; returns the delay that the receiver asked for, in seconds."""
        self._reannounce.clear()
        self.state = "connecting"
        epoch = (await self._spool.call(Spool.epochs))[0]
        hello_cameras = await self._hello_cameras(epoch)
        protocol = SenderProtocol(self._identity(epoch), hello_cameras, LinkWindow(), time.monotonic)
        async with self._dialer.channel() as channel:
            call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
            try:
                await call.write(protocol.hello())
                async with asyncio.timeout(WELCOME_TIMEOUT_S):
                    welcome = await read(call)
                if welcome is None:
                    raise translated(await call.code(), await call.details())
                await self._apply(epoch, protocol.welcomed(welcome))
                self.state, self.last_error, self.last_error_code = "connected", None, None
                self._protocol = protocol
                log.info("uplink connected", receiver=self._settings.receiver, cameras=len(hello_cameras))
                return await self._transfer(call, protocol, epoch)
            except grpc.aio.AioRpcError as error:
                raise translated(error.code(), error.details()) from None
            except (TimeoutError, asyncio.InvalidStateError):
                raise CrowError(Kind.TIMEOUT, "receiver_silent", "the receiver did not answer in time") from None
            finally:
                self._protocol = None
                call.cancel()

    async def _hello_cameras(self, epoch: str) -> list[HelloCamera]:
        marks = {mark.camera_id: mark for mark in await self._spool.call(lambda spool: spool.marks(epoch))}
        known = {camera.camera_id: camera for camera in self._cameras()}
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

    async def _transfer(self, call: Call, protocol: SenderProtocol, epoch: str) -> float:
        moved = asyncio.Event()
        reader = asyncio.create_task(self._receive(call, protocol, epoch, moved))
        sender = asyncio.create_task(self._send(call, protocol, epoch, moved))
        changed = asyncio.create_task(self._reannounce.wait())
        try:
            await asyncio.wait({reader, sender, changed}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and not reader.done():
                await asyncio.wait({reader}, timeout=1)  # the stream has ended; only the reader learns why
            if reader.done():
                return reader.result()
            if sender.done():
                sender.result()
            log.info("connecting anew: cameras changed, or the next epoch's turn has come")
            return 0.0
        finally:
            for task in (reader, sender, changed):
                task.cancel()
            await asyncio.gather(reader, sender, changed, return_exceptions=True)
            self._paces.clear()
            self._paced(self._paces)

    async def _receive(self, call: Call, protocol: SenderProtocol, epoch: str, moved: asyncio.Event) -> float:
        drain_s: float | None = None
        while True:
            response = await read(call)
            if response is None:
                if drain_s is not None:
                    return drain_s
                raise translated(await call.code(), await call.details())
            events = protocol.received(response)
            drain_s = next((event.reconnect_after_s for event in events if isinstance(event, Draining)), drain_s)
            await self._apply(epoch, events)
            moved.set()

    async def _send(self, call: Call, protocol: SenderProtocol, epoch: str, moved: asyncio.Event) -> None:
        """Sends what waits in an epoch; returns when a sealed one is through."""
        position = START
        while True:
            moved.clear()
            self._spool.stored.clear()
            room = min(READ_FRAMES, protocol.room)
            frames = await self._spool.call(lambda spool: spool.read(epoch, position, room)) if room else []  # noqa: B023
            for spooled in frames:
                await self._send_one(call, protocol, epoch, spooled)
                position = spooled.position
            if not frames:
                if room and await self._is_through(call, protocol, epoch):
                    return
                await _first(moved.wait(), self._spool.stored.wait())

    async def _is_through(self, call: Call, protocol: SenderProtocol, epoch: str) -> bool:
        """Whether the receiver has passed all of a sealed epoch. Tells it of the holes behind the last frame."""
        epochs = await self._spool.call(Spool.epochs)
        if epoch not in epochs:
            return True
        for mark in await self._spool.call(lambda spool: spool.marks(epoch)) if epoch != epochs[-1] else []:
            first = protocol.next_seq(mark.camera_id)
            if first is not None and first <= mark.last_seq:
                holes = await self._spool.call(lambda spool, m=mark: spool.holes(epoch, m.camera_id, 1, m.last_seq))  # type: ignore[misc]
                for message in protocol.send_gaps(mark.camera_id, mark.last_seq, holes):
                    await call.write(message)
        return False

    async def _send_one(self, call: Call, protocol: SenderProtocol, epoch: str, spooled: SpooledFrame) -> None:
        frame = spooled.frame
        expected = protocol.next_seq(frame.camera_id)
        if expected is None:  # registered after the Hello: the reconnection that announces it is on its way
            self._reannounce.set()
            await asyncio.sleep(0.05)
            return
        holes: list[Hole] = []
        if frame.seq > expected:
            holes = await self._spool.call(lambda spool: spool.holes(epoch, frame.camera_id, expected, frame.seq - 1))
        for message in protocol.send(frame, holes):
            await call.write(message)

    async def _apply(self, epoch: str, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Refused):
                log.warning("receiver refused a frame", camera=event.camera_id, seq=event.seq, reason=event.reason)
                hole = Hole(event.camera_id, event.seq, event.seq, HoleReason.REFUSED, event.reason)
                await self._spool.call(lambda spool, h=hole: spool.give_up(epoch, h))  # type: ignore[misc]
            elif isinstance(event, PaceAsked):
                self._pace(event)
        released = {event.camera_id: event.through_seq for event in events if isinstance(event, Released)}
        if released:
            await self._spool.call(lambda spool: spool.release(epoch, released))

    def _pace(self, asked: PaceAsked) -> None:
        log.info("receiver asks for another pace", camera=asked.camera_id, interval_ms=asked.sample_interval_ms)
        self._paces[asked.camera_id] = asked.sample_interval_ms
        if not asked.sample_interval_ms:
            del self._paces[asked.camera_id]
        self._paced(self._paces)


async def _first(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
