"""Cameras that see somebody have more turns than those that see nobody, and nobody starves."""

from itertools import pairwise

import pytest
from conftest import ManualClock
from receiver_parts import HOUR_US, SECOND_US, Receiver, ScriptedVision, analysis, until

from crow_receiver.store.store import Store
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schedule import QUIET_TURNS
from crow_receiver.vision.schema import Activity, Analysis, Movement, Person, Role

SOMEBODY = Person(
    role=Role.UNKNOWN, zone="unknown", activity=Activity.UNKNOWN, movement=Movement.UNKNOWN, confidence=0.5
)


def answer(request: VisionRequest) -> Analysis:
    made = analysis()
    people = [SOMEBODY] if "busy" in request.camera else []
    return made.model_copy(update={"scene": made.scene.model_copy(update={"people": people, "interactions": []})})


async def order_of_turns(store: Store, clock: ManualClock, frames: dict[str, int], slots: int = 1) -> list[str]:
    vision = ScriptedVision(answer, slots=slots)
    receiver = Receiver(store, clock, vision)
    for camera, count in frames.items():
        for seq in range(1, count + 1):
            await receiver.frame(seq, HOUR_US + seq * SECOND_US, camera)
    await receiver.start()
    await until(lambda: len(vision.seen) == sum(frames.values()))
    await receiver.stop()
    return [camera.rpartition("/")[2] for camera, _ in vision.seen]


async def test_a_scene_with_somebody_has_so_many_turns_to_one_of_an_empty_scene(
    store: Store, clock: ManualClock
) -> None:
    turns = await order_of_turns(store, clock, {"busy-1": 30, "quiet-1": 30, "busy-2": 30, "quiet-2": 30})
    contended = turns[4:60]  # each camera's first frame says what its scene is
    for quiet in ("quiet-1", "quiet-2"):
        for busy in ("busy-1", "busy-2"):
            assert contended.count(busy) == pytest.approx(QUIET_TURNS * contended.count(quiet), abs=3)


async def test_an_empty_scene_never_waits_for_more_than_its_share(store: Store, clock: ManualClock) -> None:
    turns = await order_of_turns(store, clock, {"busy-1": 40, "busy-2": 40, "quiet": 20})
    places = [place for place, camera in enumerate(turns[:80]) if camera == "quiet"]
    assert max(after - before for before, after in pairwise(places)) <= 2 * QUIET_TURNS + 2


async def test_where_there_is_room_for_all_nobody_waits(store: Store, clock: ManualClock) -> None:
    turns = await order_of_turns(store, clock, {"busy": 1, "quiet-1": 1, "quiet-2": 1}, slots=3)
    assert sorted(turns) == ["busy", "quiet-1", "quiet-2"]


async def test_cameras_alike_have_as_many_turns_as_each_other(store: Store, clock: ManualClock) -> None:
    turns = await order_of_turns(store, clock, {"quiet-1": 10, "quiet-2": 10, "quiet-3": 10})
    for start in range(0, 30, 3):
        assert len(set(turns[start : start + 3])) == 3
