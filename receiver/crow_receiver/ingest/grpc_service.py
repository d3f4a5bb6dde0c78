"""IngestService over grpc.aio: one stream per daemon.

Reading, storing and acknowledging run apart: a frame is handed to the store as soon as it is read, commits come back in
order, and one task writes cumulative acknowledgements when nothing more is on its way to the disk, at the latest after
`ACK_EVERY_S`. What is in memory is bounded: frames by the window, gaps by taking one at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import structlog

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_receiver.ingest.intake import Intake, checked_frame
from crow_receiver.ingest.protocol import MAX_SEQ, PROTOCOL_VERSION, ReceiverProtocol
from crow_receiver.store import cameras
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.store import Store, Transaction
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import from_wire
from crow_shared.identity import CameraKey, checked_id

log = structlog.get_logger()

ACK_EVERY_S = 0.05
HELLO_TIMEOUT_S = 10.0
RECONNECT_AFTER_DRAIN_MS = 1000
MAX_CAMERAS = 1000
MAX_NAME_CHARS = 120

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
}

Context: TypeAlias = "grpc.aio.ServicerContext[pb.StreamFramesRequest, pb.StreamFramesResponse]"


@dataclass(eq=False, slots=True)
class _Stream:
    """One daemon's stream while it lasts."""

    hello: pb.Hello
    cameras: dict[str, CameraRow]
    protocol: ReceiverProtocol
    rejects: list[pb.StreamFramesResponse] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    storing: set[asyncio.Task[None]] = field(default_factory=set)
    failure: CrowError | None = None
    replaced: bool = False

    @property
    def daemon(self) -> tuple[str, str, str]:
        return (self.hello.organization_id, self.hello.site_id, self.hello.daemon_id)


class IngestService(ingest_pb2_grpc.IngestServiceServicer):
    """Takes the frames of all daemons."""

    def __init__(self, store: Store, intake: Intake, clock: Clock, window_frames: int) -> None:
        self._store = store
        self._intake = intake
        self._clock = clock
        self._window_frames = window_frames
        self._streams: dict[tuple[str, str, str], _Stream] = {}
        self._draining = asyncio.Event()

    @property
    def connected_daemons(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    def drain(self) -> None:
        """Asks every daemon to stop sending; what is under way is still stored and acknowledged."""
        self._draining.set()
        for stream in self._streams.values():
            stream.progress.set()

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
        log.info("daemon connected", daemon="/".join(stream.daemon), cameras=len(stream.cameras))
        reader = asyncio.create_task(self._read(request_iterator, stream))
        try:
            await self._acknowledge(context, stream, reader)
        except CrowError as error:
            log.warning("stream ended", daemon="/".join(stream.daemon), error=error.message)
            await context.abort(_STATUS[error.kind], error.message)
        finally:
            reader.cancel()
            await asyncio.gather(reader, *stream.storing, return_exceptions=True)
            if self._streams.get(stream.daemon) is stream:
                del self._streams[stream.daemon]
            log.info("daemon disconnected", daemon="/".join(stream.daemon))

    async def _open(self, requests: AsyncIterator[pb.StreamFramesRequest], context: Context) -> _Stream:
        try:
            first = await asyncio.wait_for(anext(requests), HELLO_TIMEOUT_S)
        except (TimeoutError, StopAsyncIteration):
            raise CrowError(Kind.INVALID, "protocol_error", "no Hello") from None
        if first.WhichOneof("message") != "hello":
            raise CrowError(Kind.INVALID, "protocol_error", "the stream does not begin with Hello")
        hello = first.hello
        keys = _checked_hello(hello)
        stream = _Stream(hello, {}, ReceiverProtocol(self._window_frames))
        self._claim(stream)

        def announce(tx: Transaction) -> tuple[dict[str, CameraRow], dict[str, int]]:
            rows: dict[str, CameraRow] = {}
            positions: dict[str, int] = {}
            for camera in hello.cameras:
                key = keys[camera.camera_id]
                row = cameras.announce(tx.db, key, camera.name, camera.sample_interval_ms)
                here = cameras.durable_seq(tx.db, row.id, hello.spool_epoch)
                if camera.acked_seq > here:
                    # This receiver acknowledged more than it remembers (a restored backup). The frames are gone from
                    # the spool, so the daemon's word holds; resuming earlier would wait for them for ever.
                    log.error("this receiver has lost frames", camera=str(key), here=here, acked=camera.acked_seq)
                    cameras.set_position(tx.db, row.id, hello.spool_epoch, camera.acked_seq)
                rows[camera.camera_id], positions[camera.camera_id] = row, max(here, camera.acked_seq)
            return rows, positions

        try:
            stream.cameras, positions = await self._store.write(announce)
            await context.write(stream.protocol.welcome(positions))
        except BaseException:
            if self._streams.get(stream.daemon) is stream:
                del self._streams[stream.daemon]
            raise
        return stream

    def _claim(self, stream: _Stream) -> None:
        """Takes the daemon's place. The same spool coming back replaces its older, perhaps half-open, stream."""
        other = self._streams.get(stream.daemon)
        if other is not None:
            if other.hello.spool_epoch != stream.hello.spool_epoch:
                raise CrowError(
                    Kind.CONFLICT,
                    "daemon_id_taken",
                    f"a daemon {'/'.join(stream.daemon)} with another spool is connected: "
                    "give each daemon of a site its own daemon_id",
                )
            other.replaced = True
            other.progress.set()
        self._streams[stream.daemon] = stream

    async def _read(self, requests: AsyncIterator[pb.StreamFramesRequest], stream: _Stream) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "frame":
                    if stream.protocol.take_frame(request.frame):
                        self._start(stream, self._frame(stream, request))
                case "gap":
                    if stream.protocol.take_gap(request.gap):
                        await asyncio.wait({self._start(stream, self._gap(stream, request.gap))})
                case "hello":
                    raise CrowError(Kind.INVALID, "protocol_error", "a second Hello")
            if stream.protocol.unacknowledged:
                stream.progress.set()

    def _start(self, stream: _Stream, storing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        # Tasks run to their first wait, which is the hand-over to the store's queue, in the order of their creation.
        task = asyncio.create_task(storing)
        stream.storing.add(task)
        task.add_done_callback(lambda done: self._stored(stream, done))
        return task

    def _stored(self, stream: _Stream, task: "asyncio.Task[None]") -> None:
        stream.storing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and stream.failure is None:
            stream.failure = (
                error if isinstance(error, CrowError) else CrowError(Kind.INTERNAL, "internal", "the receiver failed")
            )
            if not isinstance(error, CrowError):
                log.error("storing a frame failed", exc_info=error)
        stream.progress.set()

    async def _frame(self, stream: _Stream, request: pb.StreamFramesRequest) -> None:
        message = request.frame
        camera, epoch = stream.cameras[message.camera_id], stream.hello.spool_epoch
        try:
            frame = checked_frame(from_wire(message), self._clock.now_us())
        except CrowError as error:
            code = _REJECT_CODES.get(error.code, pb.REJECT_CODE_NOT_A_PICTURE)
            log.warning("frame rejected", camera=str(camera.key), seq=message.seq, error=error.message)
            await self._intake.missing(camera, epoch, message.seq, message.seq, error.code, error.message)
            reject = pb.Reject(camera_id=message.camera_id, seq=message.seq, code=code, reason=error.message)
            stream.rejects.append(pb.StreamFramesResponse(reject=reject))
        else:
            await self._intake.stream_frame(camera, epoch, frame)
        stream.protocol.durable(message.camera_id, message.seq, frames=1)

    async def _gap(self, stream: _Stream, gap: pb.Gap) -> None:
        camera, epoch = stream.cameras[gap.camera_id], stream.hello.spool_epoch
        known = gap.reason in pb.GapReason.values()
        reason = pb.GapReason.Name(gap.reason).removeprefix("GAP_REASON_").lower() if known else f"code_{gap.reason}"
        log.warning("frames missing", camera=str(camera.key), from_seq=gap.from_seq, to_seq=gap.to_seq, reason=reason)
        await self._intake.missing(camera, epoch, gap.from_seq, gap.to_seq, reason, "reported by the daemon")
        stream.protocol.durable(gap.camera_id, gap.to_seq, frames=0)

    async def _acknowledge(self, context: Context, stream: _Stream, reader: "asyncio.Task[None]") -> None:
        """Writes rejects and acknowledgements until the stream ends; raises CrowError for how it ended, if badly."""
        draining = False
        reader.add_done_callback(lambda _: stream.progress.set())
        while True:
            await stream.progress.wait()
            stream.progress.clear()
            if stream.storing:
                await _pause_for_more(stream)
            for reject in stream.rejects:
                await context.write(reject)
            stream.rejects.clear()
            if stream.protocol.unacknowledged:
                await context.write(stream.protocol.ack())
            if stream.failure is not None:
                raise stream.failure
            if stream.replaced:
                raise CrowError(Kind.CONFLICT, "replaced", "this daemon has connected anew")
            if self._draining.is_set() and not draining:
                draining = True
                drain = pb.Drain(reconnect_after_ms=RECONNECT_AFTER_DRAIN_MS)
                await context.write(pb.StreamFramesResponse(drain=drain))
            finished = reader.done() or draining
            if finished and not stream.storing and not stream.protocol.unacknowledged and not stream.rejects:
                if reader.done():
                    reader.result()
                return


async def _pause_for_more(stream: _Stream) -> None:
    """Waits for more to acknowledge at once, but not for long: acknowledging each frame costs a quarter of the rate."""
    deadline = asyncio.get_running_loop().time() + ACK_EVERY_S
    while stream.storing and (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.wait_for(stream.progress.wait(), left)
        except TimeoutError:
            return
        stream.progress.clear()


def _checked_hello(hello: pb.Hello) -> dict[str, CameraKey]:
    if hello.protocol_version != PROTOCOL_VERSION:
        raise CrowError(
            Kind.UNSUPPORTED,
            "protocol_version",
            f"the daemon speaks protocol {hello.protocol_version}, this receiver {PROTOCOL_VERSION}: update the older",
        )
    for value, what in (
        (hello.organization_id, "organization id"),
        (hello.site_id, "site id"),
        (hello.daemon_id, "daemon id"),
        (hello.spool_epoch, "spool epoch"),
    ):
        checked_id(value, what)
    if len(hello.cameras) > MAX_CAMERAS:
        raise CrowError(Kind.TOO_LARGE, "too_many_cameras", f"more than {MAX_CAMERAS} cameras in Hello")
    for camera in hello.cameras:
        checked_id(camera.camera_id, "camera id")
        if camera.acked_seq > MAX_SEQ:
            raise CrowError(Kind.INVALID, "protocol_error", f"acked_seq {camera.acked_seq} is above {MAX_SEQ}")
        if len(camera.name) > MAX_NAME_CHARS:
            raise CrowError(Kind.TOO_LARGE, "name_too_long", f"camera name longer than {MAX_NAME_CHARS} characters")
    return {c.camera_id: CameraKey(hello.organization_id, hello.site_id, c.camera_id) for c in hello.cameras}
