"""The small Gemma-3, made once."""

from pathlib import Path
from typing import Any

import pytest

from crow_sim.gemma import write_gemma3


@pytest.fixture(scope="session")
def small_gemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_gemma3(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="session")
def scripted_gemma_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small Gemma that follows the script of `scripted_gemma`."""
    pytest.importorskip("llama_cpp")
    from scripted_gemma import write_scripted  # noqa: PLC0415 — needs llama.cpp

    return write_scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="session")
def scripted_gemma(scripted_gemma_files: tuple[Path, Path]) -> Any:
    """The same, loaded."""
    from scripted_gemma import GemmaModel, options  # noqa: PLC0415 — needs llama.cpp

    return GemmaModel(*scripted_gemma_files, options())
