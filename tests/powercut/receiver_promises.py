"""A real receiver on a recorded disk, frames from a real gRPC client, and a judge of what a power cut left."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import cv2
import grpc
import numpy as np
from disk_log import DiskLog, Op, Record, promise
from forgetful_disk import ForgetfulDisk, cut_points, write_out

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_receiver.audit.audit import audit
from crow_receiver.audit.report import Fault
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.embedded_schema import migrations as queue_migrations
from crow_receiver.store.migrations import migrations
from crow_shared.clock import SystemClock
from crow_shared.database import open_database
from crow_shared.errors import CrowError
from crow_shared.frame import Frame, TimeSource, to_wire
from crow_shared.segments import Pointer, SegmentStore
from crow_sim.line import ReceiverService

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.StreamFramesRequest, pb.StreamFramesResponse]"

EPOCH = "recorded"
CAMERAS = ("till", "door")
SETTINGS = {
    "CROW_RECEIVER_SESSION__GAP_S": "30",
    "CROW_RECEIVER_BATCH__FRAMES": "3",
    "CROW_RECEIVER_VISION__ENGINE": "classic",
}


@dataclass(slots=True)
class Findings:
    """What the judge counted over many cuts; `faults` is empty when every promise held."""

    cuts: int = 0
    promised: int = 0
    messages: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Promises:
    """What the client knows: acknowledged numbers per camera, checksums of the pictures that it sent."""

    acked: dict[str, int] = field(default_factory=dict)
    sent: dict[tuple[str, int], int] = field(default_factory=dict)

    def note(self, record: Record) -> None:
        """Takes up what a record promises, if it does."""
        if record.op is Op.PROMISE:
            for camera, seq in record.promised.get("acked", {}).items():
                self.acked[camera] = max(seq, self.acked.get(camera, 0))
            for camera, seq, checksum in record.promised.get("sent", ()):
                self.sent[camera, seq] = checksum


@dataclass(slots=True)
class Recorded:
    """One run of the receiver: the disk before it, and the log of what it did."""

    before: ForgetfulDisk
    log: DiskLog
    promises: Promises = field(default_factory=Promises)  # those of earlier runs hold on

    def judged(self, cuts: int, chance: random.Random, scratch: Path) -> tuple[Findings, Path]:
        """Cuts the power so many times and looks at what is left each time; also where the last one's disk lies."""
        records = list(self.log.records())
        findings = Findings()
        done = 0
        for cut, point in enumerate(cut_points(records, cuts, chance)):
            for record in records[done:point]:
                self.before.apply(record)
                self.promises.note(record)
            done = point
            disk = self.before.after_cut(chance)
            left = write_out(disk, scratch / f"cut-{cut}")
            findings.cuts += 1
            findings.promised += sum(self.promises.acked.values())
            try:
                findings.messages += judge(left, self.promises, findings.faults)
            except CrowError as error:
                findings.faults.append(f"cannot be opened: {error}")
        return findings, write_out(disk, scratch / "last")


def judge(left: Path, promises: Promises, faults: list[str]) -> int:
    """Appends what is missing after a cut to `faults`; returns how many messages are there.

    Every acknowledged frame is in the database with its picture intact; every analysis that went into a batch is in
    exactly one message, waiting or on the queue; no message that was dispatched is missing on the queue.
    """
    if not (left / "receiver.db").exists() and not promises.acked:
        return 0
    pictures = SegmentStore(left / "pictures")
    db = open_database(left / "receiver.db", migrations)
    queue = open_database(left / "queue.db", queue_migrations)
    try:
        faults += [f"damaged: {row}" for base in (db, queue) for (row,) in base.execute("pragma integrity_check(5)")
                   if row != "ok"]  # fmt: skip
        stored = {
            (camera, seq): Pointer(*pointer)
            for camera, seq, *pointer in db.execute(
                'select camera_id, seq, segment, "offset", length, crc32 from frame '
                "join camera on camera.id = frame.camera where epoch = ?",
                (EPOCH,),
            )
        }
        for camera, through in promises.acked.items():
            missing = [seq for seq in range(1, through + 1) if (camera, seq) not in stored]
            faults += [f"{camera} was acknowledged up to {through} and lacks {missing[:5]}"] if missing else []
        for place, pointer in stored.items():
            try:
                if crc32(pictures.read(pointer)) != promises.sent[place]:
                    faults.append(f"{place} has another picture")
            except CrowError as error:
                faults.append(f"{place}: {error.message}")
        waiting = dict(
            db.execute("select message_id, body from outbox join outbox_content using (id) where dispatched_us is null")
        )
        queued = dict(queue.execute("select message_id, body from message").fetchall())
        bodies = [json.loads(body) for body in (waiting | queued).values()]
        told = Counter(
            (body["sessionId"], frame["frameIndex"]) for body in bodies for frame in body.get("frameAnalyses", ())
        )
        batched = set(
            db.execute(
                "select frame.session_id, frame_index from analysis join frame on frame.id = analysis.frame "
                "where batch_index is not null"
            ).fetchall()
        )
        if set(told) != batched or max(told.values(), default=1) > 1:
            faults.append(f"{len(batched)} analyses in batches, {told.total()} told of in {len(bodies)} messages")
        faults += [f"audit: {fault}" for fault in _audited(left)]
        return len(bodies)
    finally:
        db.close()
        queue.close()
        pictures.close()


def _audited(left: Path) -> list[Fault]:
    queue = EmbeddedQueue(left / "queue.db", SystemClock())
    try:
        return audit(left, queue, SystemClock()).faults
    finally:
        queue.close()


async def record_receiver(
    log: DiskLog, receiver: ReceiverService, frames: int, promises: Promises, *, orderly: bool
) -> Recorded:
    """Runs the receiver under the log while a client delivers frames; ends it in order or by kill -9."""
    log.root.mkdir(exist_ok=True)
    before = ForgetfulDisk(log.root)
    with receiver:
        async with grpc.aio.insecure_channel(receiver.grpc_address) as channel:
            await deliver(channel, log.log, frames)
        while any(camera["waiting"] for camera in receiver.json("status")["cameras"]):
            await asyncio.sleep(0.2)
        if orderly:
            assert receiver.stop() == 0
    return Recorded(before, log, promises)


async def deliver(channel: grpc.aio.Channel, log: Path, frames: int) -> None:
    """Sends pictures of both cameras until so many each are acknowledged; each Ack is a promise."""
    call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
    hello = pb.Hello(protocol_version=1, organization_id="acme", site_id="shop", daemon_id="box", spool_epoch=EPOCH)
    hello.cameras.extend(pb.HelloCamera(camera_id=camera, name=camera, sample_interval_ms=1000) for camera in CAMERAS)
    await call.write(pb.StreamFramesRequest(hello=hello))
    welcome = (await _next(call)).welcome
    acked = {position.camera_id: position.durable_seq for position in welcome.cameras}
    promise(log, {"acked": acked})
    goal = {camera: acked[camera] + frames for camera in CAMERAS}
    sending = asyncio.create_task(_send(call, log, dict(acked), frames, welcome.window_frames, acked))
    try:
        while acked != goal:
            moved = {position.camera_id: position.durable_seq for position in (await _next(call)).ack.cameras}
            promise(log, {"acked": moved})
            acked |= moved
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        call.cancel()


async def _send(call: Call, log: Path, first: dict[str, int], frames: int, window: int, acked: dict[str, int]) -> None:
    start_us = SystemClock().now_us() - 3600_000_000
    for number in range(1, frames + 1):
        while sum(first[camera] + number - acked[camera] for camera in CAMERAS) > window:
            await asyncio.sleep(0.001)
        made = []
        for camera in CAMERAS:
            picture = noise(crc32(f"{camera} {first[camera] + number}".encode()))
            capture_us = start_us + (first[camera] + number) * 2_000_000
            frame = Frame.of_picture(camera, capture_us, TimeSource.ARRIVAL, 64, 48, picture)
            wire = to_wire(frame)
            wire.seq = first[camera] + number
            made.append(wire)
        promise(log, {"sent": [(wire.camera_id, wire.seq, wire.crc32) for wire in made]})
        for wire in made:
            await call.write(pb.StreamFramesRequest(frames=pb.Frames(frames=[wire])))


async def _next(call: Call) -> pb.StreamFramesResponse:
    response = await call.read()
    assert isinstance(response, pb.StreamFramesResponse), f"the stream ended: {await call.details()}"
    return response


def noise(seed: int) -> bytes:
    """A small JPEG unlike all others."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    coded, data = cv2.imencode(".jpg", pixels)
    assert coded
    return data.tobytes()
