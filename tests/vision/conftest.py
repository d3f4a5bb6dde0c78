"""The small Gemma-3, made once."""

from pathlib import Path
from typing import Any

import pytest

from crow_sim.gemma import write_gemma3


@pytest.fixture(scope="session")
def small_gemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_gemma3(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="session")
def scripted_gemma(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A loaded small Gemma that follows the script of `scripted_gemma`."""
    pytest.importorskip("llama_cpp")
    from scripted_gemma import loaded  # noqa: PLC0415 — needs llama.cpp

    return loaded(tmp_path_factory.mktemp("scripted"))
