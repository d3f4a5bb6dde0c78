"""One stream to the receiver: it brings the frames of one epoch of the spool, and what the receiver says of them.

Invariants
1. A frame is forgotten by the spool only after the receiver acknowledged or refused it.
2. Besides what is under way, memory holds at most one read of the spool; a slow receiver slows that reading.
3. What is sent follows the spool's order; a camera that was not announced stops the lane until it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc
import structlog

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.ledger.tally import LedgerMark, WrittenMinute
from crow_daemon.spool.accounts import CameraMark, Hole, HoleReason
from crow_daemon.spool.spool import START, Position, Spool, SpooledFrame
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.connection import Call, read, translated
from crow_daemon.uplink.messages import Messages
from crow_daemon.uplink.protocol import Draining, Event, LedgerKept, PaceAsked, Refused, Released, SenderProtocol
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

READ_FRAMES = 16  # a slow link has room for fewer, so that a fresh frame does not wait for a whole read of the backlog
WELCOME_TIMEOUT_S = 10.0
LEAVE_TIMEOUT_S = 2.0


class Lane:
    """A stream from its Hello to its end; the live one, or one that drains a sealed epoch."""

    def __init__(
        self,
        spool: SpoolThread,
        epoch: str,
        protocol: SenderProtocol,
        *,
        unannounced: Callable[[], None],
        paced: Callable[[PaceAsked], None],
        ledger_kept: Callable[[Sequence[LedgerMark]], Awaitable[None]],
    ) -> None:
        """`unannounced` is called when the next frame is of a camera that the Hello did not name."""
        self.epoch = epoch
        self.protocol = protocol
        self._spool = spool
        self._unannounced = unannounced
        self._paced = paced
        self._ledger_kept = ledger_kept
        self._position: Position = START
        self._leaving = False
        self._closed = False
        self._through = False  # a sealed epoch of which nothing is left
        self._call: Call | None = None

    async def open(self, channel: grpc.aio.Channel) -> None:
        """Says Hello and hears where to go on. Raises CrowError when the receiver does not want this stream."""
        call = self._call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
        try:
            await call.write(self.protocol.hello())
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                welcome = await read(call)
            if welcome is None:
                raise translated(await call.code(), await call.details())
            await self._apply(self.protocol.welcomed(welcome))
            self._through = await self._spool.call(self._is_through)
        except grpc.aio.AioRpcError as error:
            raise translated(error.code(), error.details()) from None
        except (TimeoutError, asyncio.InvalidStateError):
            raise CrowError(Kind.TIMEOUT, "receiver_silent", "the receiver did not answer in time") from None

    async def listen(self) -> float | None:
        """Follows what the receiver says, to the end of the stream.

        Returns the seconds after which it wants to be asked again, when it is about to stop; None when the stream was
        left, or when all of a sealed epoch is delivered. Raises CrowError for every other end.
        """
        call = self._opened
        drain_s: float | None = None
        try:
            while not self._through:
                response = await read(call)
                if response is None:
                    if drain_s is not None or self._leaving:
                        return drain_s
                    raise translated(await call.code(), await call.details())
                events = self.protocol.received(response)
                drain_s = next((event.reconnect_after_s for event in events if isinstance(event, Draining)), drain_s)
                await self._apply(events)
                self._spool.wake_uplink.set()  # there may be room to send
        except grpc.aio.AioRpcError as error:
            raise translated(error.code(), error.details()) from None
        return None

    async def send(self) -> bool:
        """Sends one read of the spool, as far as there is room; whether there may be more to send.

        Returns False, too, when the stream has ended: `listen` says why.
        """
        over = self._leaving or self._closed or self.protocol.draining
        room = min(READ_FRAMES, self.protocol.room)
        if over or not (room or self.protocol.backlog):
            return False

        def look(spool: Spool) -> tuple[list[SpooledFrame], list[CameraMark]]:
            found = spool.read(self.epoch, self._position, room) if room else []
            only_holes = not found and (bool(room) or not spool.waiting(self.epoch))
            is_sealed = spool.epochs()[-1] != self.epoch
            return found, spool.marks(self.epoch) if only_holes and is_sealed else []

        frames, last_marks = await self._spool.call(look)
        announced = await self._send_frames(frames)
        # Holes need no room: an epoch of them alone must not stay because the link is busy.
        await self._send_last_gaps(last_marks)
        return announced and bool(frames) and len(frames) == room

    async def tell_ledger(self, minutes: Sequence[WrittenMinute]) -> None:
        """Tells minutes of the sample ledger; when the stream has ended, `listen` says why."""
        if not self._closed:
            await self._written([self.protocol.tell_ledger(minutes)])

    async def leave(self, listening: "asyncio.Task[float | None]") -> None:
        """Ends the stream in order, so that what is under way is acknowledged on it, if that does not take long."""
        self._leaving = True
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._opened.done_writing()
                await asyncio.wait({listening})
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            log.info("the stream had ended before it was left")

    def close(self) -> None:
        """Ends the stream at once."""
        self._closed = True
        self.protocol.ended()
        if self._call is not None:
            self._call.cancel()

    @property
    def _opened(self) -> Call:
        assert self._call is not None, "opened"
        return self._call

    async def _send_frames(self, frames: Sequence[SpooledFrame]) -> bool:
        """Sends them up to one whose camera was not announced; whether there was none, and the stream has not ended."""
        outgoing = Messages()
        for spooled in frames:
            expected = self.protocol.next_seq(spooled.frame.camera_id)
            if expected is None:
                self._unannounced()
                await self._written(outgoing.take())
                return False
            holes: list[Hole] = []
            if spooled.frame.seq > expected:
                holes = await self._holes(spooled.frame.camera_id, expected, spooled.frame.seq - 1)
            if self._closed:  # what is counted as sent from now on would stay so
                return False
            self.protocol.send(spooled.frame, holes, outgoing)
            self._position = spooled.position
        return await self._written(outgoing.take())

    async def _send_last_gaps(self, marks: Sequence[CameraMark]) -> None:
        """Tells of the holes behind the last frame of a sealed epoch: no frame will come that they could precede."""
        for mark in marks:
            first = self.protocol.next_seq(mark.camera_id)
            if first is not None and first <= mark.last_seq:
                holes = await self._holes(mark.camera_id, first, mark.last_seq)
                outgoing = Messages()
                self.protocol.send_gaps(mark.camera_id, mark.last_seq, holes, outgoing)
                if not await self._written(outgoing.take()):
                    return

    async def _written(self, messages: Sequence[pb.StreamFramesRequest]) -> bool:
        """Writes them; False when the stream has ended."""
        try:
            for message in messages:
                await self._opened.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            # gRPC raises it in a write, too, whose stream is cancelled; that must not end the task that sends.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return False
        return True

    async def _holes(self, camera_id: str, from_seq: int, to_seq: int) -> list[Hole]:
        return await self._spool.call(lambda spool: spool.holes(self.epoch, camera_id, from_seq, to_seq))

    async def _apply(self, events: list[Event]) -> None:
        released = {event.camera_id: event.through_seq for event in events if isinstance(event, Released)}
        refused = [
            Hole(event.camera_id, event.seq, event.seq, HoleReason.REFUSED, event.reason)
            for event in events
            if isinstance(event, Refused)
        ]
        for event in events:
            if isinstance(event, PaceAsked):
                self._paced(event)
            if isinstance(event, LedgerKept):
                await self._ledger_kept(event.marks)
        for hole in refused:
            log.warning("receiver refused a frame", camera=hole.camera_id, seq=hole.from_seq, reason=hole.detail)

        def settle(spool: Spool) -> None:
            for hole in refused:
                spool.give_up(self.epoch, hole)
            spool.release(self.epoch, released)
            self._through = self._is_through(spool)

        if refused or released:
            await self._spool.call(settle)

    def _is_through(self, spool: Spool) -> bool:
        return self.epoch not in spool.epochs()
