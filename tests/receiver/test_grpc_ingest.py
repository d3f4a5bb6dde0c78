"""The real uplink, spool and gRPC server against each other: what the wire promises, also when one side misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from receiver_parts import GAP_US, SECOND_US, frame_at, jpeg, until

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.settings import UplinkSettings
from crow_daemon.spool.spool import HoleReason, Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.client import Uplink
from crow_daemon.uplink.protocol import Identity
from crow_receiver.ingest.grpc_service import IngestService
from crow_receiver.ingest.intake import Intake
from crow_receiver.store.store import Store
from crow_shared.clock import SystemClock
from crow_shared.frame import MAX_MESSAGE_BYTES, Frame, to_wire

NOW_US = SystemClock().now_us()
WINDOW = 8


class Listener:
    """Takes the place of the sessions."""

    def __init__(self) -> None:
        self.frames = 0

    def stored(self, _camera: object, _stored: object) -> None:
        self.frames += 1


class Server:
    """A receiver's ingest on a port of its own."""

    def __init__(self, store: Store) -> None:
        self.store, self.listener = store, Listener()
        intake = Intake(store, self.listener, SystemClock(), GAP_US)
        self.service = IngestService(store, intake, SystemClock(), WINDOW)

    async def start(self, port: int = 0) -> None:
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(options=options)
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self.service, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(0.2)

    async def stored(self) -> list[tuple[str, int]]:
        return await self.store.read(
            lambda db: db.execute(
                "select camera_id, seq from frame join camera on camera.id = frame.camera order by camera_id, seq"
            ).fetchall()
        )


class Daemon:
    """A real spool with a real uplink."""

    def __init__(self, directory: Path, port: int, daemon_id: str = "box") -> None:
        self.spool = SpoolThread(lambda: Spool(directory, 64 << 20))
        self.cameras = [("till", "Till", 1000), ("door", "Door", 1000)]
        settings = UplinkSettings(receiver=f"127.0.0.1:{port}")
        self.uplink = Uplink(settings, lambda: self.identity, lambda: self.cameras, self.spool)
        self.daemon_id = daemon_id

    async def start(self) -> None:
        await self.spool.start()
        epoch = await self.spool.call(lambda spool: spool.epoch)
        self.identity = Identity("acme", "shop", self.daemon_id, epoch, "test")
        self.tasks = [asyncio.create_task(self.spool.write_offered()), asyncio.create_task(self.uplink.run())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.spool.close()

    def offer(self, camera_id: str, seconds: float, payload: bytes | None = None) -> None:
        frame = frame_at(NOW_US + int(seconds * SECOND_US), 0, camera_id)
        if payload is not None:
            frame = Frame.of_picture(camera_id, frame.capture_us, frame.time_source, 1, 1, payload)
        assert self.spool.offer(frame)

    async def drained(self) -> None:
        async with asyncio.timeout(15):
            while self.spool.waiting or await self.spool.call(lambda spool: spool.pending()):
                await asyncio.sleep(0.01)


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    made = Server(store)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def daemon(tmp_path: Path, server: Server) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path / "spool", server.port)
    await made.start()
    yield made
    await made.stop()


async def test_every_frame_arrives_once_and_is_then_forgotten(server: Server, daemon: Daemon) -> None:
    for second in range(100):
        daemon.offer("till" if second % 2 else "door", second)
    await daemon.drained()
    expected = [("door", seq) for seq in range(1, 51)] + [("till", seq) for seq in range(1, 51)]
    assert await server.stored() == expected
    assert server.listener.frames == 100


async def test_frames_wait_in_the_spool_while_the_receiver_is_away(server: Server, daemon: Daemon) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    await server.stop()
    for second in range(1, 30):
        daemon.offer("till", second)
    await until(lambda: daemon.uplink.state != "connected")
    await server.start(server.port)
    await daemon.drained()
    assert await server.stored() == [("till", seq) for seq in range(1, 31)]


async def test_a_bad_picture_is_refused_recorded_and_blocks_nothing(server: Server, daemon: Daemon) -> None:
    daemon.offer("till", 0)
    daemon.offer("till", 1, b"no picture at all")
    daemon.offer("till", 2, jpeg()[:-20])
    daemon.offer("till", 3)
    await daemon.drained()
    assert await server.stored() == [("till", 1), ("till", 4)]
    (lost,) = await daemon.spool.call(lambda spool: spool.lost())
    assert (lost.reason, lost.frames) == (HoleReason.REFUSED, 2)
    missing = await server.store.read(lambda db: db.execute("select from_seq, reason from missing").fetchall())
    assert missing == [(2, "not_a_picture"), (3, "picture_truncated")]


async def test_a_second_daemon_with_the_same_id_is_refused_and_costs_nobody_a_frame(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    second = Daemon(tmp_path / "second", server.port)
    await second.start()
    await until(lambda: second.uplink.last_error)
    assert "give each daemon of a site its own daemon_id" in str(second.uplink.last_error)
    for index in range(20):
        daemon.offer("till", index)
    await daemon.drained()
    assert len(await server.stored()) == 20
    assert daemon.uplink.state == "connected"
    await second.stop()


async def test_a_camera_that_is_added_later_is_announced(server: Server, daemon: Daemon) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    daemon.cameras = [*daemon.cameras, ("aisle", "Aisle", 500)]
    daemon.offer("aisle", 0)
    await daemon.drained()
    assert await server.stored() == [("aisle", 1)]


async def test_a_removed_camera_still_delivers_what_it_left(server: Server, daemon: Daemon) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    await server.stop()
    daemon.offer("till", 0)
    daemon.cameras = [("door", "Door", 1000)]
    await server.start(server.port)
    await daemon.drained()
    assert await server.stored() == [("till", 1)]


async def test_the_same_daemon_coming_back_replaces_its_half_open_stream(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        first, second = stub.StreamFrames(), stub.StreamFrames()
        await first.write(hello())
        await first.read()
        await second.write(hello())
        welcome = await second.read()
        assert isinstance(welcome, pb.StreamFramesResponse)
        assert welcome.HasField("welcome")
        assert await first.code() is grpc.StatusCode.ALREADY_EXISTS
        await second.done_writing()
        assert await second.code() is grpc.StatusCode.OK


def hello(**changes: object) -> pb.StreamFramesRequest:
    fields: dict[str, object] = {
        "protocol_version": 1,
        "organization_id": "acme",
        "site_id": "shop",
        "daemon_id": "box",
        "spool_epoch": "e1",
        "cameras": [pb.HelloCamera(camera_id="till", name='Till "3" / left; drop table camera')],
    }
    return pb.StreamFramesRequest(hello=pb.Hello(**fields | changes))  # type: ignore[arg-type]


def sent(seq: int, camera_id: str = "till") -> pb.StreamFramesRequest:
    return pb.StreamFramesRequest(frame=to_wire(replace(frame_at(NOW_US, seq), camera_id=camera_id)))


def gap(from_seq: int, to_seq: int) -> pb.StreamFramesRequest:
    return pb.StreamFramesRequest(gap=pb.Gap(camera_id="till", from_seq=from_seq, to_seq=to_seq))


@pytest.mark.parametrize(
    ("requests", "code", "words"),
    [
        ([sent(1)], grpc.StatusCode.INVALID_ARGUMENT, "does not begin with Hello"),
        ([hello(protocol_version=9)], grpc.StatusCode.FAILED_PRECONDITION, "protocol 9"),
        ([hello(organization_id="../etc")], grpc.StatusCode.INVALID_ARGUMENT, "organization id"),
        ([hello(cameras=[pb.HelloCamera(camera_id='a"b/c')])], grpc.StatusCode.INVALID_ARGUMENT, "camera id"),
        ([hello(), hello()], grpc.StatusCode.INVALID_ARGUMENT, "second Hello"),
        ([hello(), sent(1, "attic")], grpc.StatusCode.NOT_FOUND, "'attic' was not named"),
        ([hello(), sent(5)], grpc.StatusCode.INVALID_ARGUMENT, "jumps from 0 to 5"),
        ([hello(), gap(1, 2**64 - 1)], grpc.StatusCode.INVALID_ARGUMENT, "gap from 1"),
        (
            [hello(cameras=[pb.HelloCamera(camera_id="till", acked_seq=2**64 - 1)])],
            grpc.StatusCode.INVALID_ARGUMENT,
            "acked_seq",
        ),
        (
            [hello(), pb.StreamFramesRequest(frame={"camera_id": "till", "seq": 1, "payload": bytes(3 << 20)})],
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "larger than max",
        ),
    ],
)
async def test_a_stream_that_breaks_the_protocol_ends_with_the_reason(
    server: Server, requests: list[pb.StreamFramesRequest], code: grpc.StatusCode, words: str
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames(iter(requests))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
    assert caught.value.code() is code
    assert words in str(caught.value.details())
    await until(lambda: server.service.connected_daemons == 0)


async def test_a_camera_name_is_stored_as_it_is(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        async for _ in ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames(iter([hello()])):
            pass
    (row,) = await server.store.read(lambda db: db.execute("select name from camera").fetchall())
    assert row == ('Till "3" / left; drop table camera',)


async def test_draining_lets_what_is_under_way_arrive(server: Server, daemon: Daemon) -> None:
    for second in range(50):
        daemon.offer("till", second)
    await until(lambda: server.listener.frames > 5)
    server.service.drain()
    await until(lambda: server.service.connected_daemons == 0)
    stored = [seq for _, seq in await server.stored()]
    assert stored == list(range(1, len(stored) + 1))


async def test_gaps_are_taken_one_at_a_time_however_many_come(server: Server) -> None:
    requests = [hello(), sent(1), *(gap(seq, seq) for seq in range(2, 300)), sent(300)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, server.store._jobs.qsize())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answers = [a async for a in ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames(iter(requests))]
    watching.cancel()
    assert answers[-1].ack.cameras[0].durable_seq == 300
    assert most < WINDOW


async def test_a_receiver_that_lost_frames_goes_on_where_the_daemon_stands(server: Server) -> None:
    behind = hello(cameras=[pb.HelloCamera(camera_id="till", name="Till", acked_seq=7)])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames(iter([behind, sent(8)]))
        answers = [answer async for answer in call]
    assert [answers[0].welcome.cameras[0].durable_seq, answers[1].ack.cameras[0].durable_seq] == [7, 8]
