"""Whose frame is analysed next: cameras take turns, and late frames go behind those of now."""

import asyncio
import sqlite3
import threading

import pytest
import structlog
from conftest import ManualClock
from receiver_parts import HOUR_US, SECOND_US, Receiver, ScriptedVision, analysis, until

from crow_receiver.store import frames
from crow_receiver.store.cameras import set_engines
from crow_receiver.store.frames import PendingFrame
from crow_receiver.store.store import Store
from crow_receiver.vision import schedule
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey


@pytest.fixture
def vision() -> ScriptedVision:
    return ScriptedVision()


async def test_no_camera_starves_behind_a_busy_one(store: Store, clock: ManualClock, vision: ScriptedVision) -> None:
    receiver = Receiver(store, clock, vision)
    for seq in range(1, 31):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US, "busy")
    for seq in range(1, 6):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US, "quiet")
    await receiver.start()
    await until(lambda: len(vision.seen) == 35)
    await receiver.stop()
    quiet = [index for index, (camera, _) in enumerate(vision.seen) if camera.endswith("quiet")]
    assert quiet[-1] < 12
    for name in ("busy", "quiet"):
        times = [time for camera, time in vision.seen if camera.endswith(name)]
        assert times == sorted(times)


async def test_a_camera_that_comes_later_gets_the_next_turn_and_an_idle_slot_at_once(
    store: Store, clock: ManualClock
) -> None:
    """Two slots, the frames of one camera: the second slot is for whoever comes."""
    at_work, go_on = asyncio.Event(), asyncio.Event()

    class SlowVision(ScriptedVision):
        async def describe(self, request: VisionRequest) -> Analysis:
            if request.camera.endswith("busy"):
                at_work.set()
                await go_on.wait()
            return await super().describe(request)

    vision = SlowVision(slots=2)
    receiver = Receiver(store, clock, vision)
    for seq in range(1, 31):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US, "busy")
    await receiver.start()
    await at_work.wait()
    await receiver.frame(1, HOUR_US, "quiet")
    await until(lambda: vision.seen == [("acme/shop/quiet", HOUR_US)])
    go_on.set()
    await receiver.stop()


async def test_a_store_that_cannot_be_read_does_not_end_the_analysis(
    store: Store, clock: ManualClock, vision: ScriptedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[PendingFrame]:
        tried.set()
        raise sqlite3.OperationalError("disk I/O error")

    tried = threading.Event()
    receiver = Receiver(store, clock, vision)
    with monkeypatch.context() as broken:
        broken.setattr(frames, "next_frames", refuse)
        await receiver.start()
        await until(tried.is_set)
    await receiver.frame(1, HOUR_US)
    await until(lambda: len(vision.seen) == 1)
    await receiver.stop()


async def test_one_camera_never_has_two_frames_under_way(store: Store, clock: ManualClock) -> None:
    vision = ScriptedVision(slots=4)
    receiver = Receiver(store, clock, vision)
    await receiver.start()
    for seq in range(1, 20):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US)
    await until(lambda: len(vision.seen) == 19)
    await receiver.stop()
    assert vision.most_at_once == 1


async def test_late_frames_get_every_fourth_turn_of_their_camera_and_the_rest_when_nothing_else_waits(
    store: Store, clock: ManualClock, vision: ScriptedVision
) -> None:
    receiver = Receiver(store, clock, vision)
    for seq in range(1, 9):
        await receiver.frame(seq, HOUR_US - seq * SECOND_US, late=True)
    for seq in range(9, 21):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US)
    await receiver.start()
    await until(lambda: len(vision.seen) == 20)
    await receiver.stop()
    lines = ["late" if time_us < HOUR_US else "now" for _, time_us in vision.seen]
    assert lines == ["now", "now", "now", "late"] * 4 + ["late"] * 4
    assert {camera for camera, time_us in vision.seen if time_us < HOUR_US} == {"acme/shop/till/late"}
    assert {camera for camera, time_us in vision.seen if time_us > HOUR_US} == {"acme/shop/till"}


async def test_a_backlog_of_one_camera_takes_no_turn_of_another(
    store: Store, clock: ManualClock, vision: ScriptedVision
) -> None:
    receiver = Receiver(store, clock, vision)
    for seq in range(1, 31):
        await receiver.frame(seq, HOUR_US - seq * SECOND_US, "back", late=True)
    for seq in range(1, 11):
        await receiver.frame(seq, HOUR_US + seq * SECOND_US, "live")
    await receiver.start()
    await until(lambda: len(vision.seen) == 40)
    await receiver.stop()
    live = [index for index, (camera, _) in enumerate(vision.seen) if camera.endswith("live")]
    assert live[-1] <= 20


async def test_a_frame_of_now_does_not_wait_behind_late_ones_that_were_read_before(
    store: Store, clock: ManualClock
) -> None:
    """The rows that wait in memory for a slot are read again when they are old."""
    at_work, go_on = asyncio.Event(), asyncio.Event()

    class SlowVision(ScriptedVision):
        async def describe(self, request: VisionRequest) -> Analysis:
            at_work.set()
            await go_on.wait()
            return await super().describe(request)

    vision = SlowVision()
    receiver = Receiver(store, clock, vision)
    await receiver.frame(1, HOUR_US, "door")
    await receiver.frame(1, HOUR_US - SECOND_US, "till", late=True)
    await receiver.start()
    await at_work.wait()
    await receiver.frame(2, HOUR_US, "till")
    clock.advance(2)
    go_on.set()
    await until(lambda: len(vision.seen) == 3)
    await receiver.stop()
    till = [camera for camera, _ in vision.seen if "till" in camera]
    assert till == ["acme/shop/till", "acme/shop/till/late"]


async def test_a_frame_whose_engine_has_no_room_holds_up_no_frame_of_another_engine(
    store: Store, clock: ManualClock
) -> None:
    class TwoEngines(ScriptedVision):
        full = True

        def has_room(self, engines: tuple[str, ...] = ()) -> bool:
            return engines == ("classic",) or not self.full

    vision = TwoEngines(slots=2)
    receiver = Receiver(store, clock, vision)
    await receiver.frame(1, HOUR_US, "door")
    await receiver.frame(1, HOUR_US, "till")
    key = CameraKey("acme", "shop", "till")
    assert await store.write(lambda tx: set_engines(tx.db, key, ["classic"]))
    await receiver.start()
    await until(lambda: vision.seen)
    assert vision.seen == [("acme/shop/till", HOUR_US)]
    vision.full = False
    await until(lambda: len(vision.seen) == 2)
    await receiver.stop()


async def test_the_engine_is_asked_with_the_cameras_own_order_of_engines(store: Store, clock: ManualClock) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(request: VisionRequest) -> Analysis:
        asked.append(request.engines)
        return analysis()

    receiver = Receiver(store, clock, ScriptedVision(answer))
    await receiver.frame(1, HOUR_US)
    await receiver.start()
    await until(lambda: len(asked) == 1)
    key = CameraKey("acme", "shop", "till")
    await store.write(lambda tx: set_engines(tx.db, key, ["classic", "llama"]))
    await receiver.frame(2, HOUR_US + SECOND_US)
    await until(lambda: len(asked) == 2)
    await receiver.stop()
    assert asked == [(), ("classic", "llama")]


async def test_a_frame_that_is_put_back_again_and_again_is_told_of_once_until_one_gets_through(
    store: Store, clock: ManualClock, vision: ScriptedVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "RETRY_FIRST_S", 0.0)
    down = True

    def answer(request: VisionRequest) -> Analysis:
        if down:
            raise CrowError(Kind.UNAVAILABLE, "no_endpoint", "no server takes frames")
        return analysis()

    vision.answer = answer
    receiver = Receiver(store, clock, vision)
    await receiver.frame(1, HOUR_US)
    await receiver.start()
    with structlog.testing.capture_logs() as logs:
        await until(lambda: len(vision.seen) >= 5)
        assert [line["camera"] for line in logs] == ["acme/shop/till"]
        down = False
        await until(lambda: not receiver.scheduler._held_up)
        down = True
        await receiver.frame(2, HOUR_US + SECOND_US)
        await until(lambda: len(logs) == 2)
    await receiver.stop()
