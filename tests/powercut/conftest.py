"""The compiled shim, once per run."""

from pathlib import Path

import pytest
from disk_log import compiled_shim


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_shim(tmp_path_factory.mktemp("shim"))
