"""A prompt is a versioned file, of ours or of the operator's, and what is wrong with one is said before it is asked."""

from pathlib import Path

import pytest
from vision_parts import request

from crow_receiver.settings import VisionSettings
from crow_receiver.vision.choose import choose_engines
from crow_receiver.vision.prompt import SHOP_PROMPT, load_prompt
from crow_shared.errors import CrowError, Kind

GOOD = """
version = "bern-1"
instructions = "Look."
question = "Who is at {camera}? Zones: {zones}"
"""


def written(directory: Path, text: str, name: str = "mine.toml") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_settings_ask_what_is_ours_unless_told_otherwise() -> None:
    assert VisionSettings().prompt == SHOP_PROMPT == load_prompt().version


def test_a_file_of_the_operators_is_asked_and_told_apart_from_one_of_the_same_version(tmp_path: Path) -> None:
    first = load_prompt(written(tmp_path, GOOD))
    other = load_prompt(written(tmp_path, GOOD.replace("Look.", "Look closely."), "other.toml"))
    assert first.question_for(request(b"")).startswith('Who is at "Till"? Zones: "Snacks" (')
    assert first.version.startswith("bern-1+")
    assert other.version.startswith("bern-1+")
    assert first.version != other.version
    assert load_prompt(written(tmp_path, GOOD)).version == first.version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = ", "Invalid value"),
        (GOOD + "mood = 'angry'", "mood: Extra inputs"),
        (GOOD.replace("bern-1", "bern 1"), "version"),
        (GOOD.replace("{zones}", "{zone}"), "{zone} is unknown"),
        (GOOD.replace("{zones}", "{camera.x}"), "{camera.x} is unknown"),
        (GOOD.replace("{zones}", "{zones!r}"), "{zones} is unknown"),
        (GOOD.replace("{zones}", "{"), "question"),
        (GOOD.replace("Look.", ""), "instructions"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CrowError) as caught:
        load_prompt(written(tmp_path, text))
    assert caught.value.kind is Kind.INVALID
    assert says in caught.value.message


@pytest.mark.parametrize("name", ["shop-0", "nowhere/mine.toml", "mine.toml", "/"])
def test_a_prompt_that_is_not_there_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CrowError, match="cannot read the prompt") as caught:
        load_prompt(name)
    assert caught.value.kind is Kind.NOT_FOUND


def test_workers_are_told_the_whole_prompt(tmp_path: Path) -> None:
    told = VisionSettings.model_validate(
        {
            "engine": "openai",
            "prompt": written(tmp_path, GOOD),
            "openai": {"endpoints": [{"url": "https://gpu.example/v1", "model": "gemma"}]},
        }
    )
    (choice,) = choose_engines(told, tmp_path, {})
    assert choice.worker.prompt == load_prompt(told.prompt)
    with pytest.raises(CrowError, match="cannot read the prompt"):
        choose_engines(told.with_options(prompt="nowhere.toml"), tmp_path, {})


def test_an_option_that_does_not_fit_the_settings_is_said() -> None:
    with pytest.raises(CrowError, match="endpoints") as caught:
        VisionSettings().with_options(engine="openai")
    assert caught.value.kind is Kind.INVALID
