"""A receiver that takes frames and acknowledges no more: the daemon holds its window in memory, and no more."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from ingest_parts import WINDOW, Daemon
from receiver_parts import until

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.spool.spool import Position, Spool, SpooledFrame

ACKNOWLEDGED = 40


class StopsAcknowledging(ingest_pb2_grpc.IngestServiceServicer):
    def __init__(self) -> None:
        self.frames = 0

    async def StreamFrames(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamFramesRequest], _context: object
    ) -> AsyncIterator[pb.StreamFramesResponse]:
        async for request in request_iterator:
            if request.HasField("hello"):
                positions = [pb.CameraPosition(camera_id=camera.camera_id) for camera in request.hello.cameras]
                yield pb.StreamFramesResponse(welcome=pb.Welcome(cameras=positions, window_frames=WINDOW))
            for frame in request.frames.frames:
                self.frames += 1
                if self.frames <= ACKNOWLEDGED:
                    durable = pb.CameraPosition(camera_id=frame.camera_id, durable_seq=frame.seq)
                    yield pb.StreamFramesResponse(ack=pb.Ack(cameras=[durable], window_frames=WINDOW))


async def test_a_receiver_that_stops_acknowledging_costs_the_memory_of_one_window(tmp_path: Path) -> None:
    service = StopsAcknowledging()
    server = grpc.aio.server()
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(service, server)
    daemon = Daemon(tmp_path / "spool", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await daemon.start()
    read = 0
    whole_read = Spool.read

    def counted(spool: Spool, epoch: str, after: Position, limit: int) -> list[SpooledFrame]:
        nonlocal read
        frames = whole_read(spool, epoch, after, limit)
        read += len(frames)
        return frames

    spool = await daemon.spool.call(lambda spool: spool)
    spool.read = counted.__get__(spool)  # type: ignore[method-assign]
    for second in range(200):
        daemon.offer("till", second)
    await until(lambda: not daemon.spool.waiting and service.frames == ACKNOWLEDGED + WINDOW)
    for second in range(200, 250):  # each group that is stored wakes the sender
        daemon.offer("till", second)
        await until(lambda: not daemon.spool.waiting)
    assert (read, service.frames) == (ACKNOWLEDGED + WINDOW, ACKNOWLEDGED + WINDOW)
    assert await daemon.spool.call(lambda spool: spool.waiting()) == {"till": 250 - ACKNOWLEDGED}
    await daemon.stop()
    await server.stop(0)
