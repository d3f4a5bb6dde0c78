"""The engine that asks servers, in its worker process and with another engine behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai_server
import pytest
from openai_server import SCENE, OpenAiServer, serving
from vision_parts import request, shop_picture

from crow_receiver.settings import VisionSettings
from crow_receiver.vision.assembly import assembled
from crow_receiver.vision.choose import choose_engines
from crow_receiver.vision.fallback import FallbackVision
from crow_receiver.vision.openai.options import Endpoint, OpenAiOptions
from crow_receiver.vision.supervisor.job import Limits
from crow_receiver.vision.supervisor.workers import WorkerVision
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError

KEY = "sk-never-to-be-seen-4711"
PICTURE = shop_picture()


@pytest.fixture
def served() -> Iterator[OpenAiServer]:
    with serving() as server:
        yield server


@pytest.fixture
async def vision(served: OpenAiServer) -> AsyncIterator[WorkerVision]:
    endpoint = Endpoint.model_validate(
        {"url": served.url, "model": "shop-model", "api_key": KEY, "max_in_flight": 3, "timeout_s": 30}
    )
    config = WorkerConfig(engine="openai", openai=OpenAiOptions(endpoints=(endpoint,)))
    started = WorkerVision(config, limits=Limits(deadline_s=2))
    await started.start()
    yield started
    await started.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_frame_comes_back_with_the_servers_model_and_tokens(vision: WorkerVision) -> None:
    analysis = await vision.describe(request(PICTURE))
    said = analysis.provenance
    assert analysis.scene.description == SCENE["description"]
    assert (said.engine, said.model, said.model_sha256, said.prompt_version) == ("openai", "shop-model", None, "shop-3")
    assert (said.usage.prompt_tokens, said.usage.answer_tokens) == (700, 90)


async def test_as_many_frames_are_asked_about_at_once_as_the_servers_may_have(
    vision: WorkerVision, served: OpenAiServer
) -> None:
    await vision.describe(request(PICTURE))
    assert vision.slots == 3
    served.gate.clear()
    frames = [asyncio.create_task(vision.describe(request(PICTURE, second))) for second in range(5)]
    await until(lambda: served.under_way == 3)
    served.gate.set()
    await asyncio.gather(*frames)
    assert served.most_under_way == 3


async def test_a_frame_over_its_deadline_is_broken_off_at_the_server_and_others_are_not_disturbed(
    vision: WorkerVision, served: OpenAiServer
) -> None:
    await vision.describe(request(PICTURE))
    served.faults = [openai_server.never]
    late = asyncio.create_task(vision.describe(request(PICTURE, 1)))
    await until(lambda: len(served.questions) == 2)
    assert await vision.describe(request(PICTURE, 2))
    with pytest.raises(CrowError) as caught:
        await late
    assert caught.value.code == "frame_deadline"
    assert await vision.describe(request(PICTURE, 3))


async def test_the_key_is_neither_in_the_workers_environment_nor_in_its_command_line(vision: WorkerVision) -> None:
    process = Path(f"/proc/{vision.pids[0]}")
    for name in ("environ", "cmdline"):
        assert KEY.encode() not in (process / name).read_bytes()


async def test_a_picture_that_does_not_decode_is_sent_to_nobody(vision: WorkerVision, served: OpenAiServer) -> None:
    with pytest.raises(CrowError) as caught:
        await vision.describe(request(PICTURE[: len(PICTURE) // 2] + b"\xff\xd9"))
    assert caught.value.code == "picture_corrupt"
    assert not served.questions


@asynccontextmanager
async def with_classic_behind(server: OpenAiServer) -> AsyncIterator[FallbackVision]:
    endpoints = [{"url": server.url, "model": "shop-model"}]
    settings = VisionSettings.model_validate(
        {"engine": "openai, classic", "fallback_after_s": 1.5, "openai": {"endpoints": endpoints}}
    )
    vision = assembled(choose_engines(settings, Path("/nowhere"), {}), settings, SystemClock())
    await vision.start()
    try:
        yield vision
    finally:
        await vision.close()


async def test_classic_stands_in_for_a_server_that_is_gone_until_it_is_there_again() -> None:
    with serving() as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
    async with with_classic_behind(server) as vision:
        await until(lambda: vision.states[0].trouble)
        with pytest.raises(CrowError) as caught:
            await vision.describe(request(PICTURE))
        assert caught.value.code == "no_endpoint"
        await until(lambda: vision.states[0].passed_over)
        analysis = await vision.describe(request(PICTURE))
        assert analysis.provenance.engine == "classic"
        (passed_over,) = analysis.provenance.passed_over
        assert passed_over.engine == "openai"
        assert "cannot be reached" in passed_over.reason
        with serving(port=port):
            await until(lambda: vision.states[0].trouble is None)
            again = await vision.describe(request(PICTURE, 1))
            assert again.provenance.engine == "openai"
            assert again.provenance.passed_over == []
