"""A real store, sessions, scheduler and gRPC stream, an engine of a given speed, and time that the test moves."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from conftest import ManualClock
from ingest_parts import frames_message
from prometheus_client import CollectorRegistry
from receiver_parts import GAP_US, HOUR_US, SECOND_US, Receiver, ScriptedVision, frame_at, known_camera, until

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_receiver.ingest.grpc_service import IngestService
from crow_receiver.ingest.intake import Intake
from crow_receiver.ingest.uploads import Uploads
from crow_receiver.overload.overload import Overload
from crow_receiver.queue.port import PATTERN_QUEUE
from crow_receiver.settings import OverloadSettings
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import to_wire

WINDOW = 64


class MeteredVision(ScriptedVision):
    """An engine that describes as many frames as it has been granted."""

    def __init__(self) -> None:
        super().__init__()
        self.granted = asyncio.Semaphore(0)
        self.wants_more = False

    async def describe(self, request: VisionRequest) -> Analysis:
        self.wants_more = self.granted.locked()
        await self.granted.acquire()
        self.wants_more = False
        return await super().describe(request)


class Daemon:
    """A client that obeys: it samples at the interval asked for and sends no more than its window."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.StreamFramesRequest, pb.StreamFramesResponse]") -> None:
        self.call = call
        self.interval_ms = self.asked_ms = 1000
        self.paces: list[int] = []
        self.seq = self.acked = 0
        self.window = WINDOW
        self.next_us = HOUR_US

    async def hello(self) -> None:
        camera = pb.HelloCamera(camera_id="till", name="Till", sample_interval_ms=self.interval_ms)
        hello = pb.Hello(
            protocol_version=1,
            organization_id="acme",
            site_id="shop",
            daemon_id="box",
            spool_epoch="e",
            cameras=[camera],
        )
        await self.call.write(pb.StreamFramesRequest(hello=hello))
        assert (await self.call.read()).HasField("welcome")  # type: ignore[union-attr]
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while isinstance(answer := await self.call.read(), pb.StreamFramesResponse):
            if answer.HasField("pace"):
                self.paces.append(answer.pace.sample_interval_ms)
                self.asked_ms = answer.pace.sample_interval_ms or self.interval_ms
            elif answer.HasField("ack"):
                self.window = answer.ack.window_frames
                self.acked = max([self.acked, *(camera.durable_seq for camera in answer.ack.cameras)])

    async def sample_until(self, now_us: int) -> None:
        while self.next_us <= now_us:
            if self.seq - self.acked < self.window:
                self.seq += 1
                await self.call.write(frames_message(to_wire(frame_at(self.next_us, self.seq))))
            self.next_us += self.asked_ms * 1000
        await until(lambda: self.acked == self.seq)


class Line:
    """All of it."""

    def __init__(self, store: Store, clock: ManualClock, policy: OverloadSettings) -> None:
        self.clock, self.vision = clock, MeteredVision()
        self.receiver = Receiver(store, clock, self.vision)
        self.registry = CollectorRegistry()
        self.intake = Intake(store, self.receiver.directory, clock, GAP_US)
        self.service = IngestService(store, self.intake, clock, WINDOW)
        self.overload = Overload(
            store, clock, policy, WINDOW, self.service, self.receiver.directory, self.receiver.scheduler, self.registry
        )
        self.granted = 0.0

    async def start(self) -> None:
        self.server = grpc.aio.server()
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self.service, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        await self.receiver.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.daemon = Daemon(ingest_pb2_grpc.IngestServiceStub(self.channel).StreamFrames())
        await self.daemon.hello()

    async def stop(self) -> None:
        self.daemon.reading.cancel()
        await asyncio.gather(self.daemon.reading, return_exceptions=True)
        await self.channel.close()
        await self.server.stop(0.2)
        await self.receiver.stop()

    async def waiting(self) -> int:
        query = "select count(*) from frame where state = 'pending'"
        return await self.receiver.store.read(lambda db: db.execute(query).fetchone()[0])

    async def run(self, seconds: int, frames_per_s: float) -> float:
        """Lets time pass and returns how far behind the camera was at most."""
        most_s = 0.0
        for _ in range(seconds):
            self.clock.advance(1)
            await self.daemon.sample_until(self.clock.now_us())
            self.granted = min(self.granted + frames_per_s, len(self.vision.seen) + await self.waiting())
            for _ in range(int(self.granted) - len(self.vision.seen)):
                self.vision.granted.release()
            while not self.vision.wants_more and await self.waiting():
                await asyncio.sleep(0.001)
            await self.overload.run_once()
            most_s = max(most_s, await self.receiver.behind_s())
        return most_s

    def sample(self, name: str, **labels: str) -> float | None:
        camera = {} if "lane" in labels else {"organization": "acme", "site": "shop", "camera": "till"}
        return self.registry.get_sample_value(name, camera | labels)


Started = Callable[[OverloadSettings], Awaitable[Line]]


@pytest.fixture
async def line(store: Store, clock: ManualClock) -> AsyncIterator[Started]:
    made: list[Line] = []

    async def start(policy: OverloadSettings) -> Line:
        made.append(Line(store, clock, policy))
        await made[0].start()
        return made[0]

    yield start
    await made[0].stop()


async def test_a_daemon_is_asked_for_fewer_samples_until_the_engine_keeps_up_and_gets_its_own_pace_back(
    line: Started,
) -> None:
    made = await line(OverloadSettings())
    behind_s = await made.run(200, frames_per_s=0.4)
    assert made.daemon.paces[:2] == [2000, 4000]
    assert made.daemon.asked_ms >= 4000
    assert made.sample("crow_receiver_asked_interval_seconds") == made.daemon.asked_ms / 1000
    assert behind_s < 120
    await made.run(250, frames_per_s=10)
    assert made.daemon.paces[-1] == 0
    assert made.sample("crow_receiver_asked_interval_seconds") == 0
    failed = await made.receiver.store.read(
        lambda db: db.execute("select count(*) from frame where failure").fetchone()
    )
    assert failed == (0,)


async def test_frames_that_waited_for_too_long_are_given_up_with_the_reason_and_the_messages_say_so(
    line: Started,
) -> None:
    made = await line(OverloadSettings(shed_after_s=60, degrade_after_s=0))
    behind_s = await made.run(100, frames_per_s=0.2)
    assert 60 <= behind_s <= 66  # the engine is at one for 5 s
    states = await made.receiver.store.read(
        lambda db: db.execute("select state, failure from frame order by id").fetchall()
    )
    failures = [failure for state, failure in states if state == "failed"]
    assert set(failures) == {"overload: waited for more than 60 s"}
    assert len(failures) > 20
    ends = [state for state, _ in states]
    assert ends.index("pending") >= ends.count("failed")  # the oldest have gone
    assert made.sample("crow_receiver_shed_frames_total") == len(failures)
    await made.run(20, frames_per_s=10)
    made.clock.advance(300)
    await made.receiver.closed()
    summary = (await made.receiver.messages(PATTERN_QUEUE))[-1]
    failed = int(made.sample("crow_receiver_shed_frames_total") or 0)
    assert summary["frames"] == {"analysed": made.daemon.seq - failed, "failed": failed}


async def test_when_too_many_frames_wait_daemons_keep_theirs_uploads_are_refused_and_all_opens_again(
    line: Started, store: Store
) -> None:
    made = await line(OverloadSettings(max_waiting_frames=20, degrade_after_s=0, shed_after_s=0))
    uploads = Uploads(store, made.intake, made.receiver.directory, made.clock, made.overload)
    await made.run(12, frames_per_s=0)
    assert made.sample("crow_receiver_lane_open", lane="live") == 1
    assert made.sample("crow_receiver_lane_open", lane="backlog") == 0
    assert made.overload.obstacle is None
    await made.run(30, frames_per_s=0)
    assert made.daemon.window == 0
    assert await made.waiting() <= 22
    assert made.sample("crow_receiver_lane_open", lane="live") == 0
    assert "frames wait" in str(made.overload.obstacle)
    with pytest.raises(CrowError) as caught:
        await uploads.accept((await known_camera(store)).key, "e2", frame_at(HOUR_US, 1))
    assert (caught.value.kind, caught.value.code) == (Kind.EXHAUSTED, "overloaded")
    await made.run(30, frames_per_s=2)
    await until(lambda: made.daemon.window == WINDOW)
    assert made.overload.obstacle is None
    await uploads.accept((await known_camera(store)).key, "e2", frame_at(HOUR_US, 1))


@pytest.mark.parametrize("jump_s", [0, 7200])
async def test_what_waited_while_the_receiver_was_off_or_its_clock_wrong_is_not_shed(
    store: Store, clock: ManualClock, line: Started, jump_s: int
) -> None:
    before = Receiver(store, clock, ScriptedVision())
    for seq in range(1, 6):
        await before.frame(seq, HOUR_US + seq, "door")
    await before.directory.stop()
    if not jump_s:
        clock.advance(7200)
    made = await line(OverloadSettings(degrade_after_s=0))
    clock.jump(jump_s)
    for _ in range(299):
        clock.advance(1)
        await made.overload.run_once()
    assert await made.waiting() == 5
    clock.advance(2)
    await made.overload.run_once()
    assert await made.waiting() == 1  # the one that the engine is at


async def test_one_camera_that_floods_does_not_delay_nine_quiet_ones(store: Store, clock: ManualClock) -> None:
    vision = MeteredVision()
    receiver = Receiver(store, clock, vision)
    await receiver.start()
    captured, delays_s = 0, []
    for second in range(60):
        clock.advance(1)
        for _ in range(20):
            captured += 1
            await receiver.frame(captured, clock.now_us(), "flood")
        quiet = f"quiet{second % 9}"
        await receiver.frame(second // 9 + 1, clock.now_us(), quiet)
        seen = len(vision.seen)
        for _ in range(3):
            vision.granted.release()
        await until(lambda n=seen: len(vision.seen) == n + 3)  # type: ignore[misc]
        delays_s += [
            (clock.now_us() - time_us) / SECOND_US for camera, time_us in vision.seen[seen:] if "quiet" in camera
        ]
    await receiver.stop()
    assert len(delays_s) >= 59
    assert max(delays_s) <= 1


async def test_memory_does_not_grow_with_the_frames_that_wait(store: Store, clock: ManualClock) -> None:
    vision = ScriptedVision()
    receiver = Receiver(store, clock, vision)
    await receiver.frame(1, HOUR_US)
    columns = ("camera, epoch, session_id, capture_us, time_source, received_us, encoding, width, height, masked, "
               'blurred, segment, "offset", length, crc32')  # fmt: skip
    await store.write(
        lambda tx: tx.db.execute(
            f"""insert into frame ({columns}, seq, frame_index)
                with recursive n (i) as (select 2 union all select i + 1 from n where i < 50000)
                select {columns}, i, i - 1 from frame, n"""
        )
    )
    overload = Overload(
        store, clock, OverloadSettings(), WINDOW, Nobody(), receiver.directory, receiver.scheduler, CollectorRegistry()
    )
    tracemalloc.start()
    try:
        await receiver.start()
        for _ in range(20):
            await overload.run_once()
        await until(lambda: len(vision.seen) > 200)
        await receiver.stop()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 5_000_000


class Nobody:
    """No daemon is connected."""

    def pace(self, _camera: object, _interval_ms: int) -> bool:
        return False

    def set_room(self, _live: int, _backlog: int) -> None: ...
