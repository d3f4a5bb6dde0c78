"""Engines in order: who is asked, when another one stands in, and what is told of it."""

import asyncio
from collections.abc import Callable

import pytest
import structlog
from conftest import ManualClock
from receiver_parts import analysis
from vision_parts import request

from crow_receiver.vision.fallback import FallbackVision
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis, PassedOver
from crow_shared.errors import CrowError, Kind

AFTER_S = 30.0
DOWN = CrowError(Kind.UNAVAILABLE, "no_endpoint", "no server takes frames")


class ScriptedEngine:
    """An engine as the test wants it."""

    def __init__(self, name: str, slots: int = 2) -> None:
        self.engine_name = name
        self.slots = slots
        self.trouble: str | None = None
        self.answer: Callable[[], Analysis] = lambda: analysis(f"{name} saw it.", name)
        self.room = True
        self.asked = 0
        self.runs = False
        self.gate = asyncio.Event()
        self.gate.set()

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        return self.room

    async def start(self) -> None:
        self.runs = True

    async def close(self) -> None:
        self.runs = False

    async def describe(self, request: VisionRequest) -> Analysis:
        self.asked += 1
        await self.gate.wait()
        return self.answer()

    def fails(self, error: CrowError, trouble: str | None) -> None:
        def answer() -> Analysis:
            raise error

        self.answer, self.trouble = answer, trouble

    def is_well(self) -> None:
        self.answer, self.trouble = (lambda: analysis("Well again.", self.engine_name)), None


@pytest.fixture
def openai() -> ScriptedEngine:
    return ScriptedEngine("openai", slots=8)


@pytest.fixture
def classic() -> ScriptedEngine:
    return ScriptedEngine("classic")


@pytest.fixture
def vision(openai: ScriptedEngine, classic: ScriptedEngine, clock: ManualClock) -> FallbackVision:
    return FallbackVision({"openai": openai, "classic": classic}, AFTER_S, clock)


def of_camera(*engines: str) -> VisionRequest:
    plain = request(b"")
    return VisionRequest(
        plain.camera, plain.camera_name, plain.capture_us, plain.zones, plain.encoding, plain.coded, engines
    )


async def engine_of(vision: FallbackVision, *engines: str) -> str:
    return (await vision.describe(of_camera(*engines))).provenance.engine


async def failure(vision: FallbackVision, *engines: str) -> CrowError:
    with pytest.raises(CrowError) as caught:
        await vision.describe(of_camera(*engines))
    return caught.value


async def test_the_first_engine_serves_and_nothing_is_said_of_the_others(vision: FallbackVision) -> None:
    said = await vision.describe(of_camera())
    assert said.provenance.engine == "openai"
    assert said.provenance.passed_over == []
    assert vision.slots == 10
    assert vision.engine_name == "openai, classic"


async def test_a_camera_may_have_an_order_of_its_own_and_engines_that_are_not_there_are_left_out(
    vision: FallbackVision,
) -> None:
    assert await engine_of(vision, "classic") == "classic"
    assert await engine_of(vision, "llama", "classic", "openai") == "classic"
    assert await engine_of(vision, "llama") == "openai", "none of its own is there"


async def test_an_engine_that_is_down_is_waited_for_and_then_passed_over_with_the_reason(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "connection refused")
    for _ in range(2):
        assert (await failure(vision)).code == "no_endpoint"
        clock.advance(AFTER_S / 2)
    said = await vision.describe(of_camera())
    assert said.provenance.engine == "classic"
    assert said.provenance.passed_over == [PassedOver(engine="openai", reason="connection refused")]
    asked = openai.asked
    assert await engine_of(vision) == "classic"
    assert openai.asked == asked, "it is left alone"


async def test_an_engine_that_is_well_again_serves_at_once(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "connection refused")
    await failure(vision)
    clock.advance(AFTER_S)
    assert await engine_of(vision) == "classic"
    openai.is_well()
    assert await engine_of(vision) == "openai"
    openai.fails(DOWN, "refused again")
    assert (await failure(vision)).code == "no_endpoint", "a new outage has a new time"


async def test_one_that_only_seems_to_be_well_again_is_passed_over_within_the_same_frame(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "connection refused")
    await failure(vision)
    clock.advance(AFTER_S)

    def tried() -> Analysis:
        openai.trouble = "it answers 500"
        raise DOWN

    openai.trouble, openai.answer = None, tried
    said = await vision.describe(of_camera())
    assert said.provenance.engine == "classic"
    assert said.provenance.passed_over == [PassedOver(engine="openai", reason="it answers 500")]


async def test_while_one_that_was_down_is_at_its_first_frame_the_next_engine_has_the_others(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "connection refused")
    await failure(vision)
    clock.advance(AFTER_S)
    assert await engine_of(vision) == "classic"
    openai.is_well()
    openai.gate.clear()
    first = asyncio.create_task(vision.describe(of_camera()))
    for _ in range(3):
        await asyncio.sleep(0)
        said = await vision.describe(of_camera())
        assert said.provenance.passed_over == [
            PassedOver(engine="openai", reason="it was down, and is at its first frame since")
        ]
        clock.advance(AFTER_S)  # however long that takes
    openai.gate.set()
    assert (await first).provenance.engine == "openai"
    openai.gate.clear()
    both = [asyncio.create_task(vision.describe(of_camera())) for _ in range(2)]
    await asyncio.sleep(0)
    openai.gate.set()
    assert {(await frame).provenance.engine for frame in both} == {"openai"}


async def test_short_trouble_sends_no_frame_elsewhere_however_long_the_next_one_takes(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "its worker was killed")
    await failure(vision)
    openai.is_well()
    openai.gate.clear()
    frames = []
    for _ in range(2):
        frames.append(asyncio.create_task(vision.describe(of_camera())))
        await asyncio.sleep(0)
        clock.advance(AFTER_S / 2)
    openai.gate.set()
    assert {(await frame).provenance.engine for frame in frames} == {"openai"}


async def test_trouble_that_was_over_long_ago_does_not_count(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    openai.trouble = "a moment's trouble"
    assert vision.states[0].trouble
    openai.trouble = None
    assert not vision.states[0].trouble
    clock.advance(AFTER_S)
    assert not vision.states[0].trouble
    openai.fails(DOWN, "down")
    assert (await failure(vision)).code == "no_endpoint"


@pytest.mark.parametrize(
    "error",
    [
        CrowError(Kind.CORRUPT, "picture_corrupt", "half a picture"),
        CrowError(Kind.INTERNAL, "answer_invalid", "no scene"),
        CrowError(Kind.UNAVAILABLE, "worker_died", "the worker died of it"),
        CrowError(Kind.TIMEOUT, "frame_deadline", "it took too long"),
        CrowError(Kind.UNAVAILABLE, "endpoint_failed", "three tries failed"),
    ],
    ids=lambda error: error.code,
)
async def test_no_other_engine_is_asked_about_a_frame_that_may_be_bad(
    vision: FallbackVision, openai: ScriptedEngine, classic: ScriptedEngine, clock: ManualClock, error: CrowError
) -> None:
    openai.trouble = "down"
    assert vision.states[0].trouble
    clock.advance(AFTER_S)
    openai.fails(error, None)
    assert (await failure(vision)).code == error.code
    assert classic.asked == 0


async def test_when_all_are_down_the_first_says_why(
    vision: FallbackVision, openai: ScriptedEngine, classic: ScriptedEngine, clock: ManualClock
) -> None:
    openai.fails(DOWN, "refused")
    classic.fails(CrowError(Kind.UNAVAILABLE, "no_worker", "no worker"), "no worker")
    assert all(state.trouble for state in vision.states)
    clock.advance(AFTER_S)
    assert (await failure(vision)).code == "no_endpoint"


async def test_a_frame_has_room_where_it_would_go(
    vision: FallbackVision, openai: ScriptedEngine, classic: ScriptedEngine, clock: ManualClock
) -> None:
    openai.room = False
    assert not vision.has_room()
    assert vision.has_room(("classic",))
    openai.fails(DOWN, "refused")
    await failure(vision)
    clock.advance(AFTER_S)
    assert vision.has_room(), "classic stands in"
    classic.room = False
    assert not vision.has_room()


async def test_how_the_engines_are_is_told_and_logged_once(
    vision: FallbackVision, openai: ScriptedEngine, clock: ManualClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        assert [(state.name, state.trouble) for state in vision.states] == [("openai", None), ("classic", None)]
        openai.trouble = "refused"
        down_us = clock.now_us()
        for _ in range(3):
            assert vision.states[0].trouble == "refused"
            clock.advance(AFTER_S)
        state = vision.states[0]
        assert (state.since_us, state.passed_over) == (down_us, True)
        openai.trouble = None
        assert vision.states[0].trouble is None
    assert [line["event"] for line in logs] == ["engine is down", "engine is passed over", "engine serves again"]


async def test_if_one_engine_cannot_start_none_is_left_running(
    vision: FallbackVision, openai: ScriptedEngine, classic: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise CrowError(Kind.CORRUPT, "model_corrupt", "the file was changed")

    monkeypatch.setattr(classic, "start", refuse)
    with pytest.raises(CrowError, match="the file was changed"):
        await vision.start()
    assert not openai.runs
