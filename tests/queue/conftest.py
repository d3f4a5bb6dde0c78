from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ManualClock

from crow_receiver.queue.embedded import EmbeddedQueue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def queue(path: Path, clock: ManualClock) -> Iterator[EmbeddedQueue]:
    opened = EmbeddedQueue(path, clock)
    yield opened
    opened.close()
