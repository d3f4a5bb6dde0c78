"""After an outage: what is seen now goes up at once, what waited goes up beside it, and each frame once."""

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ingest_parts import WINDOW, Daemon, Server
from receiver_parts import until

from crow_daemon.settings import UplinkOrder
from crow_daemon.spool import segment_log
from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import MAX_WAITING_FRAMES
from crow_daemon.uplink import client
from crow_daemon.uplink.backlog import DrainRate
from crow_daemon.uplink.protocol import Announced

OUTAGE_S = 45.0


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOOK_EVERY_S", 0.02)


@pytest.fixture
async def in_order(tmp_path: Path, server: Server) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path / "spool", server.port, order=UplinkOrder.IN_ORDER)
    await made.start()
    yield made
    await made.stop()


async def arrived(server: Server) -> list[tuple[str, int, int]]:
    """(epoch, number, late) in the order of storing."""
    return await server.store.read(lambda db: db.execute("select epoch, seq, late from frame order by id").fetchall())


async def epochs(daemon: Daemon) -> list[str]:
    return await daemon.spool.call(Spool.epochs)


async def offline(server: Server, daemon: Daemon, frames: int, outage_s: float = OUTAGE_S) -> None:
    """So many frames are spooled while the receiver is away for so long."""
    await until(lambda: daemon.uplink.state == "connected")
    await server.stop()
    await until(lambda: daemon.uplink.state != "connected")
    for second in range(frames):
        await until(lambda: daemon.spool.waiting < MAX_WAITING_FRAMES)
        daemon.offer("till", second)
    await until(lambda: not daemon.spool.waiting)
    daemon.clock.advance(outage_s)


async def sealed_from_live(daemon: Daemon) -> tuple[str, str]:
    async with asyncio.timeout(10):
        while len(found := await epochs(daemon)) < 2:
            await asyncio.sleep(0.005)
    return found[0], found[1]


async def test_a_live_frame_does_not_wait_for_the_backlog(server: Server, daemon: Daemon) -> None:
    await offline(server, daemon, 30)
    server.service.set_room(WINDOW, 0)
    await server.start(server.port)
    sealed, live = await sealed_from_live(daemon)
    daemon.offer("till", 100)
    await until(lambda: server.listener.frames == 1)
    assert await arrived(server) == [(live, 1, 0)]
    server.service.set_room(WINDOW, WINDOW)
    await daemon.drained()
    assert await arrived(server) == [(live, 1, 0), *((sealed, seq, 1) for seq in range(1, 31))]
    await until(lambda: server.service.connected_daemons == 1)
    assert await epochs(daemon) == [live]


async def test_live_frames_go_between_those_of_the_backlog_each_lane_in_order(server: Server, daemon: Daemon) -> None:
    await offline(server, daemon, 300)
    await server.start(server.port)
    sealed, live = await sealed_from_live(daemon)
    for second in range(20):
        await until(lambda: server.listener.frames >= 10 * second)  # noqa: B023
        daemon.offer("till", 1000 + second)
    await daemon.drained()
    rows = await arrived(server)
    assert [(seq, late) for epoch, seq, late in rows if epoch == live] == [(seq, 0) for seq in range(1, 21)]
    assert [(seq, late) for epoch, seq, late in rows if epoch == sealed] == [(seq, 1) for seq in range(1, 301)]
    last_live = max(index for index, (epoch, _, _) in enumerate(rows) if epoch == live)
    assert last_live < 20 * 10 + 20 + 2 * WINDOW


async def test_a_short_outage_seals_nothing(server: Server, daemon: Daemon) -> None:
    await offline(server, daemon, 20, outage_s=client.LIVE_WITHIN_S - 5)
    await server.start(server.port)
    await daemon.drained()
    assert len({epoch for epoch, _, _ in await arrived(server)}) == 1


async def test_a_disk_that_takes_no_seal_keeps_nothing_from_being_delivered(
    server: Server, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was remounted read-only while the link was away."""
    await offline(server, daemon, 20)

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(segment_log, "SegmentWriter", read_only)
    await server.start(server.port)
    await daemon.drained()
    assert [seq for _, seq, _ in await arrived(server)] == list(range(1, 21))


async def test_a_sealed_epoch_without_frames_is_settled_also_while_there_is_no_room_for_frames(
    server: Server, daemon: Daemon
) -> None:
    """Else a link that the live lane fills would leave one more such epoch behind each minute."""
    await offline(server, daemon, 20)
    server.service.set_room(WINDOW, 0)
    await server.start(server.port)
    sealed, live = await sealed_from_live(daemon)
    await until(lambda: daemon.uplink.state == "connected")
    gone = Hole("till", 1, 20, HoleReason.SPOOL_FULL, "")
    assert await daemon.spool.call(lambda spool: spool.give_up(sealed, gone)) == 20
    daemon.offer("till", 100)
    async with asyncio.timeout(10):
        while await epochs(daemon) != [live]:
            await asyncio.sleep(0.01)


async def test_no_epoch_is_sealed_before_the_last_sealing_is_a_minute_old(server: Server, daemon: Daemon) -> None:
    for rest_s, expected in ((0, 1), (0, 2), (client.SEAL_EVERY_S, 2), (0, 3)):
        daemon.clock.advance(rest_s)
        await offline(server, daemon, 10)
        await server.start(server.port)
        await daemon.drained()
        assert len({epoch for epoch, _, _ in await arrived(server)}) == expected
    assert len(await arrived(server)) == 40


async def test_a_receiver_that_takes_nothing_makes_no_epochs(server: Server, daemon: Daemon) -> None:
    server.service.set_room(0, 0)
    await until(lambda: daemon.uplink.window_frames == 0)
    daemon.offer("till", 0)
    await until(lambda: not daemon.spool.waiting)
    daemon.clock.advance(600)
    await asyncio.sleep(0.2)
    assert len(await epochs(daemon)) == 1
    server.service.set_room(WINDOW, WINDOW)
    await daemon.drained()


async def test_a_link_that_is_too_slow_for_all_carries_what_is_seen_now(server: Server, daemon: Daemon) -> None:
    """Connected all the time: frames pile up, their epoch is sealed, and the stream goes on without a loss."""
    await until(lambda: daemon.uplink.state == "connected")
    server.service.set_room(1, 1)
    await until(lambda: daemon.uplink.window_frames == 1)
    for second in range(200):
        daemon.offer("till", second)
    await until(lambda: server.listener.frames > 3)
    daemon.clock.advance(OUTAGE_S)
    daemon.offer("till", 300)
    await daemon.drained()
    daemon.offer("till", 301)
    await daemon.drained()
    rows = await arrived(server)
    assert len(rows) == 202
    for epoch in {epoch for epoch, _, _ in rows}:
        numbers = [seq for of, seq, _ in rows if of == epoch]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_in_order_seals_nothing_and_delivers_sealed_epochs_first(server: Server, in_order: Daemon) -> None:
    await offline(server, in_order, 40)
    first = (await epochs(in_order))[-1]
    second = await in_order.spool.call(Spool.start_epoch)
    for number in range(40, 60):
        in_order.offer("till", number)
    await until(lambda: not in_order.spool.waiting)
    in_order.clock.advance(OUTAGE_S)
    await server.start(server.port)
    in_order.offer("till", 60)
    await in_order.drained()
    rows = [(epoch, seq) for epoch, seq, _ in await arrived(server)]
    assert rows == [(first, seq) for seq in range(1, 41)] + [(second, seq) for seq in range(1, 22)]
    assert await epochs(in_order) == [second]


async def test_cameras_that_change_while_the_backlog_drains_are_announced_and_nothing_is_lost(
    server: Server, daemon: Daemon
) -> None:
    await offline(server, daemon, 100)
    await server.start(server.port)
    await until(lambda: server.listener.frames > 5)
    daemon.cameras = [Announced("aisle", "Aisle", 500)]
    daemon.offer("aisle", 0)
    daemon.uplink.reannounce()
    await daemon.drained()
    rows = await server.stored()
    assert rows == [("aisle", 1), *(("till", seq) for seq in range(1, 101))]
    names = await server.store.read(lambda db: dict(db.execute("select camera_id, name from camera").fetchall()))
    assert names == {"aisle": "Aisle", "till": "Till", "door": "Door"}


async def test_the_end_of_a_sealed_epoch_that_was_let_go_is_told(server: Server, daemon: Daemon) -> None:
    await offline(server, daemon, 10)
    (epoch,) = await epochs(daemon)
    hole = Hole("till", 8, 10, HoleReason.SPOOL_FULL, "no room")
    await daemon.spool.call(lambda spool: spool.give_up(epoch, hole))
    await server.start(server.port)
    async with asyncio.timeout(10):
        while epoch in await epochs(daemon):
            await asyncio.sleep(0.01)
    assert await server.stored() == [("till", seq) for seq in range(1, 8)]
    missing = await server.store.read(lambda db: db.execute("select from_seq, to_seq, reason from missing").fetchall())
    assert missing == [(8, 10, "spool_full")]


async def test_a_sealed_epoch_that_the_receiver_does_not_want_blocks_nothing(server: Server, daemon: Daemon) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    daemon.offer("till", 0)
    await daemon.drained()
    (epoch,) = await epochs(daemon)
    await offline(server, daemon, 5)
    await server.store.write(lambda tx: tx.db.execute("update position set durable_seq = 99"))
    sealed_next = await daemon.spool.call(Spool.start_epoch)
    for second in range(5):
        daemon.offer("till", 50 + second)
    await until(lambda: not daemon.spool.waiting)
    live = await daemon.spool.call(Spool.start_epoch)
    await server.start(server.port)
    daemon.offer("till", 100)
    await until(lambda: server.listener.frames == 7)
    status = await daemon.uplink.backlog()
    assert status is not None
    assert status.frames == 5
    assert "crow-daemon spool repair --new-epoch" in str(status.error)
    assert {of for of, _, _ in await arrived(server)} == {epoch, sealed_next, live}
    assert daemon.uplink.state == "connected"


async def test_the_status_tells_when_the_backlog_will_be_through(server: Server, daemon: Daemon) -> None:
    assert await daemon.uplink.backlog() is None
    await offline(server, daemon, 60)
    server.service.set_room(WINDOW, 0)
    await server.start(server.port)
    async with asyncio.timeout(10):
        while (waits := await daemon.uplink.backlog()) is None:
            await asyncio.sleep(0.01)
    assert (waits.frames, waits.frames_per_s, waits.drain_s, waits.error) == (60, 0, None, None)
    assert waits.oldest_us is not None
    daemon.clock.advance(10)
    server.service.set_room(WINDOW, WINDOW)
    await until(lambda: server.listener.frames > 20)
    server.service.set_room(WINDOW, 0)
    moving = await daemon.uplink.backlog()
    assert moving is not None
    assert 0 < moving.frames_per_s < 6
    assert moving.drain_s == pytest.approx(moving.frames / moving.frames_per_s, rel=0.1)
    server.service.set_room(WINDOW, WINDOW)
    await daemon.drained()
    assert await daemon.uplink.backlog() is None


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    rate = DrainRate()
    assert rate.read(0, 0) == 0
    assert rate.read(100, 10) == 10
    for second in range(11, 60):
        assert 0 <= rate.read(100, second) <= 10
    assert rate.read(100, 60) == 0
    assert rate.read(130, 70) == pytest.approx(1)
