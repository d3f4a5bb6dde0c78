"""A receiver's ingest on a port, a daemon's spool and uplink, and the messages of a daemon that is none."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from receiver_parts import GAP_US, SECOND_US, frame_at

from crow.cctv.v1 import frame_pb2, ingest_pb2_grpc
from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.settings import UplinkOrder, UplinkSettings
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.client import Uplink
from crow_daemon.uplink.protocol import Announced, Identity
from crow_receiver.ingest.grpc_service import IngestService
from crow_receiver.ingest.intake import Intake
from crow_receiver.store.store import Store
from crow_shared.clock import SystemClock
from crow_shared.frame import MAX_MESSAGE_BYTES, Frame, to_wire

WINDOW = 8


class Listener:
    """Takes the place of the sessions."""

    def __init__(self) -> None:
        self.frames = 0
        self.told_again: list[str] = []

    def stored(self, _camera: object, _stored: object) -> None:
        self.frames += 1

    def covered(self, _camera: object, session_ids: list[str]) -> None:
        self.told_again += session_ids


class Server:
    """A receiver's ingest on a port of its own."""

    def __init__(self, store: Store) -> None:
        self.listener = Listener()
        self.use(store)

    def use(self, store: Store) -> None:
        self.store = store
        self.intake = Intake(store, self.listener, SystemClock(), GAP_US)
        self.service = IngestService(store, self.intake, SystemClock(), WINDOW)

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


class ShiftedClock(SystemClock):
    """The system's clock, until a test lets time pass."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now_us(self) -> int:
        return super().now_us() + int(self._ahead_s * SECOND_US)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds


class Daemon:
    """A real spool with a real uplink."""

    def __init__(
        self, directory: Path, port: int, daemon_id: str = "box", order: UplinkOrder = UplinkOrder.LIVE_FIRST
    ) -> None:
        self.directory, self.port, self.daemon_id, self.order = directory, port, daemon_id, order
        self.clock = ShiftedClock()
        self.began_us = self.clock.now_us()
        self.cameras = [Announced("till", "Till", 1000), Announced("door", "Door", 1000)]
        self.paces: dict[str, int] = {}

    def paced(self, asked_ms: Mapping[str, int]) -> None:
        self.paces = dict(asked_ms)

    async def start(self) -> None:
        self.ledger = SampleLedger(self.directory.with_name(f"{self.daemon_id}-ledger.db"), self.clock)
        self.spool = SpoolThread(
            lambda: Spool(self.directory, SpoolLimits(64 << 20), self.clock), self.ledger.book.spooled
        )
        await self.spool.start()
        await self.spool.call(lambda spool: self.ledger.begin(spool, []))
        settings = UplinkSettings(receiver=f"127.0.0.1:{self.port}", order=self.order)
        self.uplink = Uplink(
            settings, self.identity, lambda: self.cameras, self.spool, self.paced, self.ledger, self.clock
        )
        self.tasks = [asyncio.create_task(self.spool.write_offered()), asyncio.create_task(self.uplink.run())]

    def identity(self, epoch: str) -> Identity:
        return Identity("acme", "shop", self.daemon_id, epoch, "test")

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.spool.close()
        self.ledger.close()

    def offer(self, camera_id: str, seconds: float, payload: bytes | None = None) -> None:
        """A frame captured so long after `began_us`."""
        frame = frame_at(self.began_us + int(seconds * SECOND_US), 0, camera_id)
        if payload is not None:
            frame = Frame.of_picture(camera_id, frame.capture_us, frame.time_source, 1, 1, payload)
        assert self.spool.offer(frame)

    async def drained(self) -> None:
        async with asyncio.timeout(15):
            while self.spool.waiting or await self.spool.call(lambda spool: spool.waiting()):
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
    return frames_message(to_wire(replace(frame_at(SystemClock().now_us(), seq), camera_id=camera_id)))


def frames_message(*frames: frame_pb2.Frame) -> pb.StreamFramesRequest:
    return pb.StreamFramesRequest(frames=pb.Frames(frames=frames))


def gap(from_seq: int, to_seq: int) -> pb.StreamFramesRequest:
    return pb.StreamFramesRequest(gap=pb.Gap(camera_id="till", from_seq=from_seq, to_seq=to_seq))
