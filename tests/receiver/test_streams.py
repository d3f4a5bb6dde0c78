"""What a receiver tells its streams unasked: pace, room, and what it rejected while nobody listened."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from ingest_parts import WINDOW, Daemon, Server, frames_message, hello, sent
from receiver_parts import jpeg, until

from crow.cctv.v1 import frame_pb2, ingest_pb2_grpc
from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.spool.accounts import HoleReason
from crow_daemon.spool.spool import Spool
from crow_daemon.uplink.protocol import Announced
from crow_receiver.store import cameras as cameras_table
from crow_receiver.store.store import Store
from crow_shared.identity import CameraKey

TILL = CameraKey("acme", "shop", "till")


class Peer:
    """A stream of a daemon that does only what the test says."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.StreamFramesRequest, pb.StreamFramesResponse]") -> None:
        self.call = call

    async def told(self) -> pb.StreamFramesResponse:
        answer = await asyncio.wait_for(self.call.read(), 5)
        assert isinstance(answer, pb.StreamFramesResponse)
        return answer


@asynccontextmanager
async def stream(server: Server, **changes: object) -> AsyncIterator[Peer]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        peer = Peer(ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames())
        await peer.call.write(hello(**changes))
        yield peer
        peer.call.cancel()


async def test_a_pace_reaches_the_cameras_live_stream_only_when_it_changes(server: Server) -> None:
    async with stream(server) as peer, stream(server, backlog=True, spool_epoch="e0") as backlog:
        assert (await peer.told()).welcome.window_frames == WINDOW
        assert (await backlog.told()).HasField("welcome")
        for interval_ms in (2000, 2000, 4000):
            assert server.service.pace(TILL, interval_ms)
            await until(lambda: not any(s.paces for s in server.service._streams._open.values()))
        server.service.pace(TILL, 0)
        told = [(await peer.told()).pace.sample_interval_ms for _ in range(3)]
        assert told == [2000, 4000, 0]
        server.service.set_room(WINDOW, 3)
        assert (await backlog.told()).ack.window_frames == 3, "and it heard of no pace"


async def test_a_pace_is_told_again_to_a_daemon_that_connects_anew(server: Server) -> None:
    assert not server.service.pace(TILL, 4000), "nobody is there to hear it"
    for _ in range(2):
        async with stream(server) as peer:
            assert (await peer.told()).HasField("welcome")
            pace = (await peer.told()).pace
            assert (pace.camera_id, pace.sample_interval_ms) == ("till", 4000)


async def test_a_daemon_follows_the_pace_until_its_stream_ends(server: Server, daemon: Daemon) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    server.service.pace(TILL, 3000)
    await until(lambda: daemon.paces == {"till": 3000})
    server.service.pace(CameraKey("acme", "shop", "door"), 2000)
    await until(lambda: daemon.paces == {"till": 3000, "door": 2000})
    server.service.pace(TILL, 0)
    await until(lambda: daemon.paces == {"door": 2000})
    await server.stop()
    await until(lambda: daemon.paces == {})


async def test_a_closed_window_keeps_frames_in_the_spool_until_it_is_opened(server: Server, daemon: Daemon) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    server.service.set_room(0, 0)
    await until(lambda: daemon.uplink.window_frames == 0)
    for second in range(1, 30):
        daemon.offer("till", second)
    await until(lambda: not daemon.spool.waiting)
    assert len(await server.stored()) == 1
    server.service.set_room(WINDOW * 100, WINDOW)
    await daemon.drained()
    assert len(await server.stored()) == 30


async def test_a_window_that_is_lowered_takes_what_was_on_its_way(server: Server) -> None:
    async with stream(server) as peer:
        assert (await peer.told()).welcome.window_frames == WINDOW
        server.service.set_room(1, 1)
        for seq in range(1, WINDOW + 1):
            await peer.call.write(sent(seq))
        durable = 0
        while durable < WINDOW:
            ack = (await peer.told()).ack
            assert ack.window_frames == 1
            durable = ack.cameras[0].durable_seq if ack.cameras else durable


async def test_a_stream_that_begins_in_a_closed_window_is_opened_by_an_ack_without_cameras(server: Server) -> None:
    server.service.set_room(0, 0)
    async with stream(server) as peer:
        assert (await peer.told()).welcome.window_frames == 0
        server.service.set_room(5, 5)
        ack = (await peer.told()).ack
        assert (ack.window_frames, list(ack.cameras)) == (5, [])


async def test_a_camera_that_another_daemon_delivers_is_refused_with_both_names(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    other = Daemon(tmp_path / "other", server.port, "other-box")
    other.cameras = [Announced("till", "Till", 1000)]
    await other.start()
    other.offer("till", 0)
    await until(lambda: other.uplink.last_error)
    assert "camera acme/shop/till is delivered by daemon acme/shop/box" in str(other.uplink.last_error)
    daemon.cameras = [Announced("till", "Till", 1000, idle=True)]
    daemon.uplink.reannounce()
    await other.drained()
    assert await server.stored() == [("till", 1)]
    await other.stop()


async def test_what_a_backlog_brings_is_marked_late_and_shares_no_place_with_the_live_stream(server: Server) -> None:
    async with stream(server) as live, stream(server, backlog=True, spool_epoch="e0") as backlog:
        for peer in (live, backlog):
            assert (await peer.told()).HasField("welcome")
            await peer.call.write(sent(1))
            assert (await peer.told()).ack.cameras[0].durable_seq == 1
    rows = await server.store.read(lambda db: db.execute("select epoch, late from frame order by epoch").fetchall())
    assert rows == [("e0", 1), ("e1", 0)]


async def test_the_next_sealed_epoch_takes_the_place_of_a_half_open_backlog_stream(server: Server) -> None:
    async with stream(server, backlog=True, spool_epoch="e0") as first:
        assert (await first.told()).HasField("welcome")
        async with stream(server, backlog=True, spool_epoch="e1") as second:
            assert (await second.told()).HasField("welcome")
            assert await first.call.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_half_open_stream_of_the_epoch_sealed_last_is_the_daemons_own(server: Server) -> None:
    async with stream(server, spool_epoch="e1") as old:
        assert (await old.told()).HasField("welcome")
        async with stream(server, spool_epoch="e2", previous_epoch="e1") as fresh:
            assert (await fresh.told()).HasField("welcome")
            assert await old.call.code() is grpc.StatusCode.ALREADY_EXISTS
            assert server.service.connected_daemons == 1


async def test_a_reject_that_was_lost_with_its_connection_is_told_by_the_welcome(server: Server) -> None:
    async with stream(server) as peer:
        assert (await peer.told()).HasField("welcome")
        bad = frames_message(frame_pb2.Frame(camera_id="till", seq=2, payload=b"no picture"))
        for request in (sent(1), bad, sent(3)):
            await peer.call.write(request)
        await until(lambda: server.listener.frames == 2)  # and nobody read the answers
    async with stream(server) as peer:
        welcome = (await peer.told()).welcome
    assert welcome.cameras[0].durable_seq == 3
    assert [(reject.seq, reject.code) for reject in welcome.rejected] == [(2, pb.REJECT_CODE_NOT_A_PICTURE)]
    acked = pb.HelloCamera(camera_id="till", name="Till", acked_seq=3)
    async with stream(server, cameras=[acked]) as peer:
        assert not (await peer.told()).welcome.rejected


async def test_a_refusal_that_was_lost_with_its_connection_is_counted_once(server: Server, daemon: Daemon) -> None:
    server.service.set_room(0, 0)
    await until(lambda: daemon.uplink.window_frames == 0)
    for payload in (b"no picture", jpeg()):
        daemon.offer("till", 0, payload)
    await until(lambda: not daemon.spool.waiting)
    await server.stop()
    row = await server.store.read(lambda db: cameras_table.find(db, TILL))
    assert row is not None
    (epoch,) = await daemon.spool.call(Spool.epochs)
    refused = (epoch, 1, 1, "not_a_picture", "no JPEG", 0)
    await server.store.write(lambda tx: cameras_table.pass_over(tx.db, row.id, *refused))
    for _ in range(2):
        await server.start(server.port)
        await until(lambda: daemon.uplink.state == "connected")
        lost = await daemon.spool.call(lambda spool: spool.lost())
        assert [(one.reason, one.frames) for one in lost] == [(HoleReason.REFUSED, 1)]
        await server.stop()
        await until(lambda: daemon.uplink.state != "connected")
    assert await daemon.spool.call(lambda spool: spool.waiting()) == {"till": 1}


async def test_a_spool_restored_from_a_copy_sends_nothing_and_says_what_to_do(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    await daemon.stop()
    shutil.copytree(tmp_path / "spool", tmp_path / "copy")
    await daemon.start()
    for second in range(1, 5):
        daemon.offer("till", second)
    await daemon.drained()
    await daemon.stop()
    restored = Daemon(tmp_path / "copy", server.port)
    await restored.start()
    restored.offer("till", 99)
    await until(lambda: restored.uplink.last_error)
    assert "crow-daemon spool repair --new-epoch" in str(restored.uplink.last_error)
    assert await restored.spool.call(lambda spool: spool.waiting()) == {"till": 1}
    assert len(await server.stored()) == 5
    await restored.stop()
    await daemon.start()  # for the fixture's stop


async def test_a_receiver_restored_from_a_copy_records_what_it_has_lost_and_goes_on(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    await server.stop()
    older = tmp_path / "older"
    server.store.close()
    shutil.copytree(tmp_path / "receiver", older)
    server.use(Store(tmp_path / "receiver"))
    await server.start(server.port)
    for second in range(1, 4):
        daemon.offer("till", second)
    await daemon.drained()
    await server.stop()
    server.store.close()
    server.use(Store(older))
    await server.start(server.port)
    daemon.offer("till", 4)
    await daemon.drained()
    assert await server.stored() == [("till", 1), ("till", 5)]
    missing = await server.store.read(lambda db: db.execute("select from_seq, to_seq, reason from missing").fetchall())
    assert missing == [(2, 4, "receiver_restored")]
    await server.stop()
    server.store.close()
