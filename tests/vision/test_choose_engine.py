"""Which engine runs, and what people are told about it."""

from pathlib import Path

import pytest

from crow_receiver.models.store import ModelStore
from crow_receiver.settings import VisionSettings
from crow_receiver.vision import choose
from crow_receiver.vision.choose import Choice, choose_engines
from crow_shared.errors import CrowError, Kind


@pytest.fixture
def installed(small_gemma: tuple[Path, Path], tmp_path: Path) -> Path:
    ModelStore(tmp_path).add("small", *small_gemma)
    return tmp_path


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _: None)


@pytest.fixture
def with_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _: object())


def choose_engine(settings: VisionSettings, models: Path) -> Choice:
    (choice,) = choose_engines(settings, models, {})
    return choice


@pytest.mark.usefixtures("with_llama")
def test_without_weights_motion_analysis_runs_and_the_reason_says_how_to_get_them(tmp_path: Path) -> None:
    choice = choose_engine(VisionSettings(), tmp_path)
    assert choice.engine == "classic"
    assert str(tmp_path) in choice.reason
    assert "crow-receiver model pull gemma-3-4b-it" in choice.reason


@pytest.mark.usefixtures("with_llama")
def test_with_weights_and_the_library_gemma_runs(installed: Path) -> None:
    choice = choose_engine(VisionSettings(threads=3, gpu_layers=0), installed)
    assert (choice.engine, choice.worker.model) == ("llama", "small")
    assert (choice.worker.llama.threads, choice.worker.llama.gpu_layers) == (3, 0)
    assert Path(choice.worker.model_path).is_file()
    assert Path(choice.worker.mmproj_path).is_file()
    assert len(choice.worker.model_sha256) == len(choice.worker.mmproj_sha256) == 64


@pytest.mark.usefixtures("without_llama")
def test_weights_without_the_library_leave_motion_analysis_and_the_reason_says_so(installed: Path) -> None:
    choice = choose_engine(VisionSettings(), installed)
    assert choice.engine == "classic"
    assert "llama-cpp-python is not installed" in choice.reason


@pytest.mark.usefixtures("with_llama")
def test_settings_that_ask_for_motion_analysis_get_it(installed: Path) -> None:
    assert choose_engine(VisionSettings(engine=("classic",)), installed).engine == "classic"


@pytest.mark.usefixtures("with_llama")
def test_settings_that_ask_for_llama_do_not_silently_get_less(tmp_path: Path) -> None:
    with pytest.raises(CrowError) as caught:
        choose_engine(VisionSettings(engine=("llama",)), tmp_path)
    assert (caught.value.kind, caught.value.code) == (Kind.NOT_FOUND, "engine_missing")


@pytest.mark.usefixtures("with_llama")
def test_a_model_that_the_settings_name_has_to_be_there(installed: Path) -> None:
    with pytest.raises(CrowError, match="gemma-3-4b-it") as caught:
        choose_engine(VisionSettings(model="gemma-3-4b-it"), installed)
    assert caught.value.kind is Kind.NOT_FOUND
