"""The small Gemma-3, made once."""

from pathlib import Path

import pytest

from crow_sim.gemma import write_small_gemma3


@pytest.fixture(scope="session")
def small_gemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_small_gemma3(tmp_path_factory.mktemp("gemma"))
