import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from conftest import ManualClock
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from rest.fakes import GATEWAY, KEY, AppMaker, ClientMaker, ListedObstacles, MemoryIntake

from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.rest.app import create_app


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def readiness() -> ListedObstacles:
    return ListedObstacles()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def queue(tmp_path: Path, clock: ManualClock) -> Iterator[EmbeddedQueue]:
    opened = EmbeddedQueue(tmp_path / "queue.db", clock)
    yield opened
    opened.close()


@pytest.fixture
def make_app(
    intake: MemoryIntake,
    queue: EmbeddedQueue,
    readiness: ListedObstacles,
    clock: ManualClock,
    registry: CollectorRegistry,
) -> AppMaker:
    def make(internal_key: str | None = KEY) -> FastAPI:
        return create_app(
            intake=intake,
            queue=queue,
            readiness=readiness,
            internal_key=internal_key,
            clock=clock,
            registry=registry,
        )

    return make


@pytest.fixture
def connect() -> ClientMaker:
    def client(app: FastAPI, headers: dict[str, str]) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://receiver", headers=headers)

    return client


@pytest.fixture
async def http(make_app: AppMaker, connect: ClientMaker) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway, calling for org-1."""
    async with connect(make_app(), GATEWAY) as client:
        yield client


@pytest.fixture
async def anonymous(make_app: AppMaker, connect: ClientMaker) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without any header."""
    async with connect(make_app(), {}) as client:
        yield client


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A picture of 64 by 48 pixels."""
    coded, data = cv2.imencode(".jpg", np.full((48, 64, 3), 128, np.uint8))
    assert coded
    return data.tobytes()


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    assert not [thread for thread in left if "AnyIO" not in thread.name]
