"""A camera's zones come with its daemon's hello, are kept, and reach the engine and the operator."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from conftest import ManualClock
from ingest_parts import Daemon, Server, hello
from receiver_parts import HOUR_US, Receiver, ScriptedVision, analysis, known_camera, put, until

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.uplink.protocol import Announced
from crow_receiver.cli.main import main
from crow_receiver.store import cameras
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_shared.identity import CameraKey
from crow_shared.zones import Zone, ZoneKind, zone_to_wire

KEY = CameraKey("acme", "shop", "till")
TILL = Zone("Front Entrance", ZoneKind.AREA, ((0.25, 0.0), (1.0, 0.5), (0.5, 1.0)))
DOOR = Zone("Door", ZoneKind.LINE, ((0.0, 0.5), (1.0, 0.5)))


async def zones_of(store: Store) -> tuple[Zone, ...]:
    row = await store.read(lambda db: cameras.find(db, KEY))
    assert row is not None
    return row.zones


async def announced(server: Server, **changes: object) -> pb.StreamFramesResponse:
    """The receiver's answer to a hello; raises grpc.aio.AioRpcError."""
    camera = pb.HelloCamera(camera_id="till", name="Till", **changes)  # type: ignore[arg-type]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
        await call.write(hello(cameras=[camera], backlog=bool(changes.get("idle"))))
        return await call.read()


async def test_the_zones_of_a_camera_are_kept_as_its_daemon_said_them_last(server: Server) -> None:
    for zones in ((TILL, DOOR), (DOOR,), ()):
        await announced(server, zones=[zone_to_wire(zone) for zone in zones])
        assert await zones_of(server.store) == zones


async def test_a_backlog_stream_and_a_removed_camera_leave_the_zones_as_they_are(server: Server) -> None:
    await announced(server, zones=[zone_to_wire(TILL)])
    await announced(server, idle=True)
    await announced(server, idle=True, zones=[zone_to_wire(DOOR)])
    assert await zones_of(server.store) == (TILL,)


async def test_a_daemon_tells_of_changed_zones_without_being_restarted(server: Server, daemon: Daemon) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    daemon.cameras = [Announced("till", "Till", 1000, zones=(TILL,))]
    daemon.uplink.reannounce()
    daemon.offer("till", 1)
    await daemon.drained()
    assert await zones_of(server.store) == (TILL,)


@pytest.mark.parametrize(
    "zone",
    [
        pb.Zone(name="A", kind=pb.ZONE_KIND_AREA, points=[pb.Point(x=2, y=0)] * 3),
        pb.Zone(name="A", kind=pb.ZONE_KIND_AREA, points=[pb.Point(x=float("nan"), y=0)] * 3),
        pb.Zone(name="", kind=pb.ZONE_KIND_LINE, points=[pb.Point(), pb.Point(x=1)]),
        pb.Zone(name="Unknown", kind=pb.ZONE_KIND_LINE, points=[pb.Point(), pb.Point(x=1)]),
        pb.Zone(name="A", kind=pb.ZONE_KIND_LINE, points=[pb.Point()] * 100_000),
        pb.Zone(name="A", points=[pb.Point(), pb.Point(x=1)]),
    ],
)
async def test_a_hello_with_a_zone_that_is_none_is_refused_and_changes_nothing(server: Server, zone: pb.Zone) -> None:
    await announced(server, zones=[zone_to_wire(TILL)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await announced(server, zones=[zone_to_wire(TILL), zone])
    assert caught.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
    assert await zones_of(server.store) == (TILL,)


async def test_the_engine_is_asked_with_the_cameras_own_zones(store: Store, clock: ManualClock) -> None:
    asked: list[tuple[Zone, ...]] = []

    def answer(request: VisionRequest) -> Analysis:
        asked.append(request.zones)
        return analysis()

    receiver = Receiver(store, clock, ScriptedVision(answer))
    await receiver.start()
    for seq, zones in enumerate(((), (TILL, DOOR)), 1):
        camera = await store.write(lambda tx, zones=zones: cameras.announce(tx.db, KEY, "Till", 1000, zones))  # type: ignore[misc]
        receiver.directory.stored(camera, await put(store, camera, seq, HOUR_US + seq, clock.now_us()))
        await until(lambda seq=seq: len(asked) == seq)  # type: ignore[misc]
    assert asked == [(), (TILL, DOOR)]
    await receiver.stop()


async def test_an_operator_sees_the_zones_of_each_camera(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known_camera(store, "door")
    await store.write(lambda tx: cameras.announce(tx.db, KEY, "Till", 1000, (TILL, DOOR)))
    store.close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    said = (await asyncio.to_thread(CliRunner().invoke, main, ["camera", "list"])).stdout.splitlines()
    assert said[1].startswith("acme/shop/door ")
    assert "Front Entrance, Door (line)" in said[2]
    told = json.loads((await asyncio.to_thread(CliRunner().invoke, main, ["camera", "list", "--json"])).stdout)
    assert told[0]["zones"] == []
    assert told[1]["zones"][1] == {"name": "Door", "kind": "line", "points": [[0.0, 0.5], [1.0, 0.5]]}
