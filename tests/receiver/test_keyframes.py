"""A camera's own keyframes on the whole way: spool, uplink, gRPC, ingest, a real worker, a message."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from coded_keyframes import coded_stream, drawn_picture, keyframe
from h26x_writing import PPS_264, H264Sps, idr_slice_264, written
from ingest_parts import Daemon, Server
from receiver_parts import GAP_US, SECOND_US, Receiver, jpeg

from crow_daemon.spool.accounts import HoleReason
from crow_daemon.uplink.protocol import Announced
from crow_receiver.ingest.grpc_service import IngestService
from crow_receiver.ingest.intake import Intake
from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_receiver.vision.supervisor.job import Limits
from crow_receiver.vision.supervisor.workers import WorkerVision
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared import h26x
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding, Frame, TimeSource
from crow_shared.zones import Zone, ZoneKind

H264, H265 = Encoding.H264, Encoding.H265
WIDTH, HEIGHT = 640, 360


@pytest.fixture
async def vision() -> AsyncIterator[WorkerVision]:
    started = WorkerVision(WorkerConfig(engine="classic"), limits=Limits(deadline_s=30))
    await started.start()
    yield started
    await started.close()


@pytest.fixture
async def receiver(server: Server, store: Store, vision: WorkerVision) -> AsyncIterator[Receiver]:
    """The whole receiver behind the server's port."""
    made = Receiver(store, SystemClock(), vision)  # type: ignore[arg-type]
    await server.stop()
    server.intake = Intake(store, made.directory, SystemClock(), GAP_US)
    server.service = IngestService(store, server.intake, SystemClock(), window_frames=8)
    await server.start(server.port)
    await made.start()
    yield made
    await made.stop()


async def eventually(read: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    """What is read, once that is something."""
    async with asyncio.timeout(20):
        while not (found := await read()):
            await asyncio.sleep(0.01)
        return found


def shop(second: int) -> np.ndarray:
    """Somebody walks through from the third second on."""
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    if second >= 2:
        left = 40 + 60 * (second - 2)
        picture[120:300, left : left + 60] = (30, 60, 210)
    return picture


def offer(
    daemon: Daemon, second: int, encoding: Encoding, coded: bytes, size: tuple[int, int], **facts: object
) -> None:
    capture_us = daemon.began_us + second * SECOND_US
    frame = Frame.of_picture("till", capture_us, TimeSource.CAMERA, *size, coded, encoding)
    assert daemon.spool.offer(replace(frame, **facts))  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", [H264, H265])
async def test_keyframes_become_messages_as_jpegs_do(
    encoding: Encoding, receiver: Receiver, server: Server, daemon: Daemon
) -> None:
    left, door = (
        Zone("Front Entrance", ZoneKind.AREA, ((0, 0), (0.5, 0), (0.5, 1), (0, 1))),
        Zone("Door", ZoneKind.LINE, ((0.5, 1), (0.5, 0))),
    )
    daemon.cameras = [Announced("till", "Till", 1000, zones=(left, door))]
    daemon.uplink.reannounce()
    for second in range(10):
        coded = keyframe(encoding, WIDTH, HEIGHT, picture=shop(second))
        offer(daemon, second, encoding, coded, (WIDTH, HEIGHT), clock_skew_us=-2_500_000, masked=True)
    await daemon.drained()
    messages = await eventually(lambda: receiver.messages("crow-interaction-queue"))
    analyses = messages[0]["frameAnalyses"]
    assert len(analyses) == 10
    walking = [[person["movement"] for person in analysis["people"]] for analysis in analyses]
    assert walking == [[], [], ["unknown"], *[["right"]] * 7]
    places = [person["zone"] for analysis in analyses for person in analysis["people"]]
    assert places == ["Front Entrance"] * 5 + ["elsewhere"] * 3
    crossed = [each["crossings"] for each in analyses if each["crossings"]]
    assert crossed == [[{"line": "Door", "inwards": 1, "outwards": 0}]]
    assert {(each["timeSource"], each["clockSkewMs"], each["masked"], each["blurred"]) for each in analyses} == {
        ("camera", -2500, True, False)
    }
    rows = await server.store.read(
        lambda db: db.execute("select distinct encoding, width, height from frame").fetchall()
    )
    assert rows == [(encoding, WIDTH, HEIGHT)]


def refused(name: str) -> tuple[Encoding, bytes, tuple[int, int]]:
    """Something that must not become a frame, and the size that it is sent with."""
    size = (320, 180)
    huge = H264Sps(width_in_blocks=1024, height_in_map_units=1024)
    needs_others = coded_stream(H264, *size, pictures=6, b_frames=3)[2][1]
    whole = keyframe(H264)
    parameters = [unit for unit in h26x.nal_units(whole) if h26x.nal_type(H264, unit) in h26x.PARAMETER_SETS[H264]]
    slices = [unit for unit in h26x.nal_units(whole) if h26x.nal_type(H264, unit) in h26x.KEYFRAME_SLICES[H264]]
    return {
        "of 16384 x 16384": (
            H264,
            h26x.annex_b([written(huge), PPS_264, idr_slice_264(huge, field=False)]),
            (16384, 16384),
        ),
        "needs other pictures": (H264, h26x.annex_b(parameters) + needs_others, size),
        "has no parameter sets": (H264, h26x.annex_b(slices), size),
        "of another size than it says": (H264, whole, (1920, 1080)),
        "of another codec than it says": (H265, whole, size),
        "a JPEG by name alone": (Encoding.JPEG, whole, size),
        "a keyframe by name alone": (H265, jpeg(), (64, 48)),
        "followed by a second picture": (H264, whole + whole, size),
        "of a thousand slices": (H264, whole + h26x.annex_b(slices[-1:] * 1000), size),
        "of more bytes than are taken": (H264, whole + bytes(MAX_PICTURE_BYTES), size),
        "of ten bits": (H265, keyframe(H265, pix_fmt="yuv420p10le", profile="main10"), size),
        "nothing": (H265, b"", size),
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("of 16384 x 16384", "picture_too_large"),
        ("needs other pictures", "not_a_picture"),
        ("has no parameter sets", "not_a_picture"),
        ("of another size than it says", "not_a_picture"),
        ("of another codec than it says", "not_a_picture"),
        ("a JPEG by name alone", "not_a_picture"),
        ("a keyframe by name alone", "not_a_picture"),
        ("followed by a second picture", "not_a_picture"),
        ("of a thousand slices", "picture_too_large"),
        ("of ten bits", "not_a_picture"),
        ("nothing", "not_a_picture"),
    ],
)
async def test_what_is_no_keyframe_is_refused_with_the_reason_and_blocks_nothing(
    name: str, reason: str, server: Server, daemon: Daemon
) -> None:
    offer(daemon, 0, H264, keyframe(H264), (320, 180))
    offer(daemon, 1, *refused(name))
    offer(daemon, 2, H265, keyframe(H265), (320, 180))
    await daemon.drained()
    assert await server.stored() == [("till", 1), ("till", 3)]
    (lost,) = await daemon.spool.call(lambda spool: spool.lost())
    assert (lost.reason, lost.frames) == (HoleReason.REFUSED, 1)
    missing = await server.store.read(lambda db: db.execute("select from_seq, reason from missing").fetchall())
    assert missing == [(2, reason)]


async def test_a_keyframe_damaged_inside_fails_with_the_reason_and_those_around_it_do_not(
    receiver: Receiver, daemon: Daemon, vision: WorkerVision
) -> None:
    workers = vision.pids
    whole = keyframe(H265, WIDTH, HEIGHT, picture=drawn_picture(WIDTH, HEIGHT))
    for second, coded in enumerate((whole, whole[: len(whole) * 2 // 3], whole)):
        offer(daemon, second, H265, coded, (WIDTH, HEIGHT))
    await daemon.drained()

    async def ended() -> list[tuple[str, str | None]]:
        rows = await receiver.store.read(
            lambda db: db.execute("select state, failure from frame order by seq").fetchall()
        )
        return [] if "pending" in {state for state, _ in rows} else rows

    (first, _), (damaged, why), (last, _) = await eventually(ended)
    assert (first, damaged, last) == ("analysed", "failed", "analysed")
    assert why is not None
    assert why.startswith("picture_corrupt: ")
    assert vision.pids == workers


@pytest.mark.parametrize("encoding", [H264, H265])
async def test_a_worker_survives_whatever_passes_inspection(encoding: Encoding, vision: WorkerVision) -> None:
    workers = vision.pids
    chance = random.Random(11)
    coded = keyframe(encoding, 320, 180, "slices=2", picture=drawn_picture(320, 180))
    described = 0
    failures: list[CrowError] = []
    for number in range(300):
        mutant = bytearray(coded)
        for _ in range(chance.randint(1, 8)):
            mutant[chance.randrange(200 if number % 2 else len(mutant))] = chance.randrange(256)
        request = VisionRequest("a/b/c", "C", number * SECOND_US, (), encoding, bytes(mutant))
        try:
            assert isinstance(await vision.describe(request), Analysis)
            described += 1
        except CrowError as error:
            failures.append(error)
    assert vision.pids == workers
    assert len(failures) > 100
    assert not any(error.retryable for error in failures)
    assert described > 0 or encoding is H264  # which tells every damage
