"""IngestService over grpc.aio: one stream per daemon and lane.

Reading, storing and acknowledging run apart: what is read while the disk is busy is stored together next, in the order
of the stream, so the more there is to do, the larger the groups. Acknowledgements are cumulative: one goes when nothing
more is on its way to the disk, or when a quarter of the window is durable.
What is in memory is bounded: frames by the window, gaps and sample ledgers by taking one at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeAlias

import grpc
import structlog

from crow.cctv.v1 import frame_pb2, ingest_pb2_grpc
from crow.cctv.v1 import ingest_pb2 as pb
from crow_receiver.ingest.hello import announce, checked_hello
from crow_receiver.ingest.intake import Intake
from crow_receiver.ingest.ledger import checked_minutes, kept
from crow_receiver.ingest.streams import Stream, Streams
from crow_receiver.store.arrivals import Arrival, Missing
from crow_receiver.store.store import Store
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import from_wire
from crow_shared.identity import CameraKey

log = structlog.get_logger()

HELLO_TIMEOUT_S = 10.0
RECONNECT_AFTER_DRAIN_MS = 1000

_STATUS = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.CORRUPT: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNSUPPORTED: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

_REJECT_CODES = {
    "checksum": pb.REJECT_CODE_CHECKSUM,
    "bad_time": pb.REJECT_CODE_BAD_TIME,
    "picture_too_large": pb.REJECT_CODE_PICTURE_TOO_LARGE,
    "erased": pb.REJECT_CODE_ERASED,
}

Context: TypeAlias = "grpc.aio.ServicerContext[pb.StreamFramesRequest, pb.StreamFramesResponse]"


class IngestService(ingest_pb2_grpc.IngestServiceServicer):
    """Takes the frames of all daemons."""

    def __init__(self, store: Store, intake: Intake, clock: Clock, window_frames: int) -> None:
        self._store = store
        self._intake = intake
        self._clock = clock
        self._streams = Streams(window_frames)
        self._draining = asyncio.Event()

    @property
    def connected_daemons(self) -> int:
        """Daemons with an open stream."""
        return self._streams.daemons

    def pace(self, camera: CameraKey, sample_interval_ms: int) -> bool:
        """Asks the camera's daemon for samples this far apart, 0 for the camera's own interval.

        Asking the same again costs nothing; a daemon that reconnects is told anew. Returns whether one is connected
        that delivers the camera live: others cannot be asked.
        """
        return self._streams.pace(camera, sample_interval_ms)

    def set_room(self, live_frames: int, backlog_frames: int) -> None:
        """Lets each stream of a lane have so many unacknowledged frames under way from now on, at most its window.

        With 0 the daemons keep what they have until it is raised again.
        """
        self._streams.set_room(live_frames, backlog_frames)

    def drain(self) -> None:
        """Asks every daemon to stop sending; what is under way is still stored and acknowledged."""
        self._draining.set()
        self._streams.wake()

    async def StreamFrames(  # type: ignore[override]  # noqa: N802 — the proto's name; writes through the context
        self,
        request_iterator: AsyncIterator[pb.StreamFramesRequest],
        context: Context,
    ) -> None:
        """See ingest.proto."""
        try:
            stream = await self._open(request_iterator, context)
        except CrowError as error:
            log.warning("stream refused", peer=context.peer(), error=error.message)
            await context.abort(_STATUS[error.kind], error.message)
        log.info("daemon connected", daemon=stream.daemon, cameras=len(stream.cameras))
        reader = asyncio.create_task(self._read(request_iterator, stream))
        try:
            await self._acknowledge(context, stream, reader)
        except CrowError as error:
            log.warning("stream ended", daemon=stream.daemon, error=error.message)
            await context.abort(_STATUS[error.kind], error.message)
        finally:
            reader.cancel()
            await asyncio.gather(reader, *stream.storing, return_exceptions=True)
            self._streams.release(stream)
            log.info("daemon disconnected", daemon=stream.daemon)

    async def _open(self, requests: AsyncIterator[pb.StreamFramesRequest], context: Context) -> Stream:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            raise CrowError(Kind.INVALID, "protocol_error", "no Hello") from None
        if first.WhichOneof("message") != "hello":
            raise CrowError(Kind.INVALID, "protocol_error", "the stream does not begin with Hello")
        hello, now_us = first.hello, self._clock.now_us()
        keys = checked_hello(hello)
        stream = self._streams.claim(hello, keys)
        try:
            standing = await self._store.write(lambda tx: announce(tx, hello, keys, now_us))
            stream.cameras = standing.rows
            await context.write(stream.protocol.welcome(standing.positions, standing.rejected))
        except BaseException:
            self._streams.release(stream)
            raise
        return stream

    async def _read(self, requests: AsyncIterator[pb.StreamFramesRequest], stream: Stream) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "frames":
                    if not request.frames.frames:
                        raise CrowError(Kind.INVALID, "protocol_error", "a message of no frames")
                    for frame in request.frames.frames:
                        if stream.protocol.take_frame(frame):
                            self._store_soon(stream, self._checked(stream, frame))
                case "gap":
                    if stream.protocol.take_gap(request.gap):
                        self._store_soon(stream, self._gap(stream, request.gap))
                        await asyncio.wait(stream.storing)
                case "ledger":
                    if stream.hello.backlog:
                        raise CrowError(Kind.INVALID, "protocol_error", "a sample ledger on a backlog stream")
                    await asyncio.wait({self._soon(stream, self._store_ledger(stream, request.ledger))})
                case "hello":
                    raise CrowError(Kind.INVALID, "protocol_error", "a second Hello")
            if stream.protocol.unacknowledged:
                stream.progress.set()

    def _checked(self, stream: Stream, message: frame_pb2.Frame) -> Arrival | Missing:
        """The frame, or in its place what will never be accepted."""
        camera = stream.cameras[message.camera_id]
        try:
            return self._intake.checked(camera, from_wire(message), backlog=stream.hello.backlog)
        except CrowError as error:
            log.warning("frame rejected", camera=str(camera.key), seq=message.seq, error=error.message)
            code = _REJECT_CODES.get(error.code, pb.REJECT_CODE_NOT_A_PICTURE)
            reject = pb.Reject(camera_id=message.camera_id, seq=message.seq, code=code, reason=error.message)
            stream.refused[message.camera_id, message.seq] = reject
            reason = _word(pb.RejectCode.Name(code), "REJECT_CODE_")
            return Missing(camera, message.seq, message.seq, reason, error.message, self._clock.now_us())

    def _gap(self, stream: Stream, gap: pb.Gap) -> Missing:
        camera = stream.cameras[gap.camera_id]
        known = gap.reason in pb.GapReason.values()
        reason = _word(pb.GapReason.Name(gap.reason), "GAP_REASON_") if known else f"code_{gap.reason}"
        log.warning("frames missing", camera=str(camera.key), from_seq=gap.from_seq, to_seq=gap.to_seq, reason=reason)
        return Missing(camera, gap.from_seq, gap.to_seq, reason, "reported by the daemon", self._clock.now_us())

    def _store_soon(self, stream: Stream, one: Arrival | Missing) -> None:
        if stream.arriving.add(one):
            self._soon(stream, self._store_arrived(stream))

    def _soon(self, stream: Stream, storing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(storing)
        stream.storing.add(task)
        task.add_done_callback(lambda done: self._stored(stream, done))
        return task

    async def _store_ledger(self, stream: Stream, ledger: pb.SampleLedger) -> None:
        hello = stream.hello
        await self._intake.store_ledger(hello.organization_id, hello.site_id, checked_minutes(ledger))
        stream.ledger_acks.append(kept(ledger))

    async def _store_arrived(self, stream: Stream) -> None:
        for one in await self._intake.store_stream(stream.hello.spool_epoch, stream.arriving):
            camera_id = one.camera.key.camera_id
            reject = stream.refused.pop((camera_id, one.to_seq), None)
            if isinstance(one, Missing) and one.frame_came:
                code = _REJECT_CODES[one.reason]
                reject = pb.Reject(camera_id=camera_id, seq=one.to_seq, code=code, reason=one.detail)
            if reject is not None:
                stream.rejects.append(reject)
            carried = isinstance(one, Arrival) or reject is not None
            stream.protocol.durable(camera_id, one.to_seq, frames=int(carried))

    def _stored(self, stream: Stream, task: "asyncio.Task[None]") -> None:
        stream.storing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and stream.failure is None:
            stream.failure = (
                error if isinstance(error, CrowError) else CrowError(Kind.INTERNAL, "internal", "the receiver failed")
            )
            if not isinstance(error, CrowError):
                log.error("storing frames failed", exc_info=error)
        stream.progress.set()

    async def _acknowledge(self, context: Context, stream: Stream, reader: "asyncio.Task[None]") -> None:
        """Writes rejects and acknowledgements until the stream ends; raises CrowError for how it ended, if badly."""
        draining = False
        reader.add_done_callback(lambda _: stream.progress.set())
        while True:
            await stream.progress.wait()
            stream.progress.clear()
            # While more is on its way to the disk, its end comes by here again: one Ack for several commits will do.
            if not stream.storing or stream.protocol.ack_is_pressing:
                for answer in stream.answers():
                    await context.write(answer)
            if stream.failure is not None:
                raise stream.failure
            if stream.replaced:
                raise CrowError(Kind.CONFLICT, "replaced", "this daemon has connected anew")
            if self._draining.is_set() and not draining:
                draining = True
                drain = pb.Drain(reconnect_after_ms=RECONNECT_AFTER_DRAIN_MS)
                await context.write(pb.StreamFramesResponse(drain=drain))
            if (reader.done() or draining) and stream.settled:
                if reader.done():
                    reader.result()
                return


def _word(name: str, prefix: str) -> str:
    """The name of an enum's value as the store has it."""
    return name.removeprefix(prefix).lower()
