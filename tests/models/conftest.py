from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from crow_receiver.models.store import ModelStore


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")
