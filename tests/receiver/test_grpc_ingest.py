"""The real uplink, spool and gRPC server against each other: what the wire promises, also when one side misbehaves."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from ingest_parts import WINDOW, Daemon, Server, frames_message, gap, hello, sent
from receiver_parts import jpeg, until

from crow.cctv.v1 import frame_pb2, ingest_pb2_grpc
from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.spool.accounts import HoleReason
from crow_daemon.uplink import client
from crow_daemon.uplink.protocol import Announced
from crow_shared.errors import CrowError, Kind


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


async def test_a_receiver_that_welcomes_and_takes_no_frame_is_asked_less_and_less_often(
    server: Server, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose disk is full."""
    monkeypatch.setattr(client, "BACKOFF_FIRST_S", 0.02)
    refused_s: list[float] = []

    async def refuses(*_: object) -> None:
        refused_s.append(time.monotonic())
        raise CrowError(Kind.UNAVAILABLE, "disk_full", "no frames are taken")

    with monkeypatch.context() as patch:
        patch.setattr(server.intake, "store_stream", refuses)
        daemon.offer("till", 0)
        await until(lambda: len(refused_s) == 6)
    assert refused_s[-1] - refused_s[0] > 0.5 * sum(0.02 * 2**failures for failures in range(1, 6))
    await daemon.drained()
    assert await server.stored() == [("till", 1)]


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
    assert missing == [(2, "not_a_picture"), (3, "not_a_picture")]


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
    daemon.cameras = [*daemon.cameras, Announced("aisle", "Aisle", 500)]
    daemon.offer("aisle", 0)
    await daemon.drained()
    assert await server.stored() == [("aisle", 1)]


async def test_a_removed_camera_still_delivers_what_it_left(server: Server, daemon: Daemon) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    await server.stop()
    daemon.offer("till", 0)
    daemon.cameras = [Announced("door", "Door", 1000)]
    await server.start(server.port)
    await daemon.drained()
    assert await server.stored() == [("till", 1)]
    names = await server.store.read(lambda db: db.execute("select camera_id, name from camera order by 1").fetchall())
    assert names == [("door", "Door"), ("till", "Till")], "the camera keeps the name that it had"


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
        ([hello(), frames_message()], grpc.StatusCode.INVALID_ARGUMENT, "a message of no frames"),
        ([hello(), gap(1, 2**64 - 1)], grpc.StatusCode.INVALID_ARGUMENT, "gap from 1"),
        (
            [hello(cameras=[pb.HelloCamera(camera_id="till", acked_seq=2**64 - 1)])],
            grpc.StatusCode.INVALID_ARGUMENT,
            "acked_seq",
        ),
        (
            [hello(), frames_message(frame_pb2.Frame(camera_id="till", seq=1, payload=bytes(3 << 20)))],
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
