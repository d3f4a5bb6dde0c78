"""What became of samples travels to the receiver: once, in any order, over reconnects, and bounded."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from camera_rig import rtsp_camera
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_parts import Daemon, Server, hello
from receiver_parts import HOUR_US, known_camera, until
from sqlite_utils import Database

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.capture.outcome import Dropped, Missed
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.book import Taken
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.ledger.tally import LedgerMark, Minutes
from crow_daemon.uplink import ledger as uplink_ledger
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.protocol import Identity, LedgerKept, SenderProtocol
from crow_receiver.ingest.ledger import checked_minutes
from crow_receiver.store import ledger
from crow_receiver.store.ledger import LedgerMinute
from crow_receiver.store.migrations import migrations
from crow_receiver.store.store import Store
from crow_shared.clock import Moment
from crow_shared.errors import CrowError

MINUTE_US = 60_000_000
BEGAN_US = HOUR_US


def counted(daemon: Daemon, minutes: Minutes) -> None:
    daemon.ledger._database.write(Taken(minutes, {}), daemon.clock.now_us())
    daemon.uplink.tell_ledger()


async def sums(store: Store, camera_id: str = "till") -> ledger.LedgerSums:
    row = await known_camera(store, camera_id)
    return await store.read(lambda db: ledger.sums_between(db, row.id, 0, 2**62))


async def told(daemon: Daemon) -> None:
    async with asyncio.timeout(15):
        while await asyncio.to_thread(daemon.ledger.untold, 1):
            await asyncio.sleep(0.01)


async def test_what_a_camera_missed_and_what_its_gate_held_back_reach_the_receiver(
    daemon: Daemon, server: Server
) -> None:
    account = daemon.ledger.book.account(rtsp_camera("rtsp://camera/1", sample_interval_ms=1000), now(daemon))
    daemon.clock.advance(20)
    account.no_stream(Missed.CAMERA_DOWN, now(daemon))
    account.live(now(daemon))
    for outcome in (GateReason.NO_ACTIVITY, Dropped.ENCODE_ERROR):
        at = now(daemon)
        account.sampled(at.wall_us, 0, at)
        account.outcome(at.wall_us, outcome)
        daemon.clock.advance(1)
    account.alert("black", now(daemon))
    daemon.offer("till", 25)
    await daemon.drained()
    daemon.ledger.flush()
    daemon.uplink.tell_ledger()
    await told(daemon)
    there = await sums(server.store)
    assert (there.expected, there.sent, there.gated) == (23, 1, {"no_activity": 1})
    assert there.dropped == {"camera_down": 20, "encode_error": 1}
    assert there.alerts == {"black"}


def now(daemon: Daemon) -> Moment:
    return Moment.now(daemon.clock)


async def test_what_was_counted_before_a_connection_is_told_with_it(tmp_path: Path, server: Server) -> None:
    daemon = Daemon(tmp_path / "spool", server.port)
    before = SampleLedger(tmp_path / "box-ledger.db", daemon.clock)
    minutes = Minutes()
    minutes.at("till", BEGAN_US).sent = 1
    before._database.write(Taken(minutes, {}), daemon.clock.now_us())
    before.close()
    await daemon.start()
    async with asyncio.timeout(uplink_ledger.EVERY_S / 2):
        while await asyncio.to_thread(daemon.ledger.untold, 1):
            await asyncio.sleep(0.01)
    await daemon.stop()


def test_one_message_of_the_ledger_is_under_way_and_only_on_a_live_stream_that_goes_on() -> None:
    identity = Identity("acme", "shop", "box", "e1", "1")
    sender = SenderProtocol(identity, [], LinkWindow(), lambda: 0.0)
    assert sender.takes_ledger
    sender.tell_ledger([])
    assert not sender.takes_ledger
    mark = pb.LedgerMark(camera_id="till", minute_us=BEGAN_US, revision=4)
    answer = pb.StreamFramesResponse(ledger_ack=pb.LedgerAck(minutes=[mark]))
    assert sender.received(answer) == [LedgerKept((LedgerMark("till", BEGAN_US, 4),))]
    assert sender.takes_ledger
    sender.received(pb.StreamFramesResponse(drain=pb.Drain()))
    assert not sender.takes_ledger
    assert not SenderProtocol(identity, [], LinkWindow(), lambda: 0.0, backlog=True).takes_ledger


async def test_a_backlog_of_minutes_goes_up_in_bounded_messages_and_what_changes_meanwhile_as_well(
    daemon: Daemon, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_ledger, "MINUTES_AT_ONCE", 7)
    await until(lambda: daemon.uplink.state == "connected")
    minutes = Minutes()
    for number in range(50):
        minutes.at("till", BEGAN_US + number * MINUTE_US).dropped["daemon_down"] = 60
    counted(daemon, minutes)
    more = Minutes()
    more.at("till", BEGAN_US).sent = 2
    counted(daemon, more)
    await told(daemon)
    there = await sums(server.store)
    assert (there.minutes, there.expected, there.sent) == (50, 3002, 2)


async def test_minutes_that_were_told_to_a_receiver_that_died_are_told_again(daemon: Daemon, server: Server) -> None:
    await until(lambda: daemon.uplink.state == "connected")
    await server.stop()
    minutes = Minutes()
    minutes.at("till", BEGAN_US).sent = 3
    counted(daemon, minutes)
    assert daemon.ledger.untold(5)
    await server.start(server.port)
    await told(daemon)
    assert (await sums(server.store)).sent == 3


async def test_a_camera_that_the_receiver_never_heard_of_has_no_ledger_and_holds_up_no_other(
    daemon: Daemon, server: Server
) -> None:
    minutes = Minutes()
    for camera_id in ("ghost", "till"):
        minutes.at(camera_id, BEGAN_US).sent = 1
    counted(daemon, minutes)
    await told(daemon)
    assert (await sums(server.store)).sent == 1


@asynccontextmanager
async def stream(server: Server, **changes: object) -> AsyncIterator["grpc.aio.StreamStreamCall[object, object]"]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
        await call.write(hello(**changes))
        await call.read()
        yield call


def message(**changes: object) -> pb.StreamFramesRequest:
    fields: dict[str, object] = {"camera_id": "till", "minute_us": BEGAN_US, "revision": 1, "expected": 1, "sent": 1}
    return pb.StreamFramesRequest(ledger=pb.SampleLedger(minutes=[pb.LedgerMinute(**fields | changes)]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expected": 2}, "2 samples expected"),
        ({"minute_us": BEGAN_US + 1}, "a minute that begins at"),
        ({"revision": 2**63}, "a minute that begins at"),
        ({"expected": 2, "gated": [pb.SampleCount(reason="No Word", samples=1)]}, "no words"),
        ({"alerts": ["<script>"]}, "no words"),
        ({"camera_id": "../till"}, "no valid id"),
    ],
)
async def test_a_ledger_that_does_not_add_up_ends_the_stream_and_says_why(
    changes: dict[str, object], said: str, server: Server
) -> None:
    async with stream(server) as call:
        await call.write(message(**changes))
        with pytest.raises(grpc.aio.AioRpcError, match=said) as refused:
            while await call.read() is not grpc.aio.EOF:
                pass
            await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_backlog_stream_tells_no_ledger(server: Server) -> None:
    async with stream(server, backlog=True) as call:
        await call.write(message())
        with pytest.raises(grpc.aio.AioRpcError, match="a sample ledger on a backlog stream"):
            await call.read()


def test_a_message_of_too_many_minutes_is_refused() -> None:
    minutes = [pb.LedgerMinute(camera_id="till", minute_us=MINUTE_US * number) for number in range(1001)]
    with pytest.raises(CrowError, match="1001 minutes"):
        checked_minutes(pb.SampleLedger(minutes=minutes))


async def test_an_acknowledgement_names_what_is_on_disk_even_where_it_was_there_before(server: Server) -> None:
    async with stream(server) as call:
        for revision in (5, 3):
            await call.write(message(revision=revision, expected=revision, sent=revision))
            answer = await call.read()
            assert [mark.revision for mark in answer.ledger_ack.minutes] == [revision]
    assert (await sums(server.store)).sent == 5


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_whatever_order_minutes_come_in_and_however_often_the_last_word_stands(
    order: list[int], again: list[int]
) -> None:
    db = sqlite3.connect(":memory:")
    migrations.apply(Database(db))
    db.execute(
        "insert into camera (id, organization_id, site_id, camera_id, name, sample_interval_ms) "
        "values (1, 'o', 's', 'c', 'c', 1)"
    )
    last = {revision % 2: revision for revision in range(8)}
    for revision in [*order, *again]:
        minute = LedgerMinute(revision % 2 * MINUTE_US, revision, revision + 1, revision, {}, {"x": 1}, [])
        ledger.store_minutes(db, 1, [minute], 0)
    for revision in last.values():  # what is told twice came when it came first
        minute = LedgerMinute(revision % 2 * MINUTE_US, revision, revision + 1, revision, {}, {"x": 1}, [])
        assert ledger.store_minutes(db, 1, [minute], 9) == []
    assert db.execute("select max(received_us) from ledger").fetchone() == (0,)
    rows = db.execute("select minute_us / 60000000, revision, expected, dropped from ledger").fetchall()
    assert rows == [(place, revision, revision + 1, json.dumps({"x": 1})) for place, revision in last.items()]
    db.close()
