"""Promise: `crow-receiver eval` scores the configured engine on a data set, and says what it could not score."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from evaluation_parts import write_clip_dataset

from crow_receiver.cli.main import main
from crow_receiver.models.store import ModelStore
from crow_receiver.vision.prompt import SHOP_PROMPT
from crow_sim.gemma import write_gemma3
from crow_sim.shop import AISLE, TILL
from crow_sim.shop.dataset import write_dataset

EMPTY_THEN_SOMEBODY = [
    {"time_s": 0.5, "people": [{"activity": "entering", "zone": "Shelf"}], "interactions": []},
    {"time_s": 3, "people_count": 1, "interactions": [{"action": "pickup", "product": "nuts"}]},
]


def evaluated(folder: Path, *options: object) -> Result:
    arguments = ["eval", str(folder), *(str(option) for option in options)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_dataset(folder, (AISLE, TILL), seconds=14, interval_s=1.0, size=(640, 360))
    return folder


def test_the_rendered_shop_is_scored_in_all_that_is_labelled(shop: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "scores.json", tmp_path / "scores.svg"
    done = evaluated(shop, "--engine", "classic", "--json", out, "--picture", drawn)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    scores = found["scores"]
    assert found["dataset"]["frames_shown"] == 28
    assert [engine["engine"] for engine in found["engines"]] == ["classic"]
    assert scores["people"]["frames"] == found["dataset"]["frames_labelled"] == sum(map(sum, scores["confusion"]))
    by_camera = found["people_of_camera"]
    assert by_camera["aisle"]["frames"] + by_camera["till"]["frames"] == scores["people"]["frames"]
    assert scores["people"]["within_one"] > 0.6
    assert scores["presence"]["f1"] > 0.8, "classic sees the rendered people"
    assert scores["zone"]["macro_f1"] > 0.3
    assert (scores["activity"]["unknown_rate"], scores["actions"]["unknown_rate"]) == (1, 1), "it cannot tell"
    assert scores["hallucinated"]["told"] == 0
    assert scores["queue"]["unanswered"] == scores["queue"]["frames"] > 0
    assert found["timing"]["median_ms"] > 0
    assert len(found["frames"]) == 28
    assert found["frames"][0]["label"]["people_count"] == 0
    for words in ("classic", "people ", "presence ", "activity ", "actions ", "made up ", "queue "):
        assert words in done.stdout
    title = ET.parse(drawn).getroot().find(".//{*}text")
    assert title is not None
    assert title.text == f"classic on rendered-shop: {found['dataset']['frames_labelled']} labelled frames"


def test_an_engine_that_compares_is_given_the_frames_between_labelled_ones(tmp_path: Path) -> None:
    folder = write_clip_dataset(tmp_path / "walk", EMPTY_THEN_SOMEBODY)
    all_of_them, labelled = tmp_path / "all.json", tmp_path / "labelled.json"
    assert evaluated(folder, "--engine", "classic", "--json", all_of_them).exit_code == 0
    assert evaluated(folder, "--engine", "classic", "--labelled-only", "--json", labelled).exit_code == 0
    shown = {path.stem: json.loads(path.read_text())["dataset"]["frames_shown"] for path in (all_of_them, labelled)}
    assert shown == {"all": 7, "labelled": 2}


def test_a_frame_that_fails_is_named_counted_and_ends_the_command_with_1(shop: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "damaged", tmp_path / "scores.json"
    write_dataset(folder, (AISLE,), seconds=4, interval_s=1.0, size=(320, 180))
    picture = folder / "pictures/aisle-00002.jpg"
    picture.write_bytes(picture.read_bytes()[:2000])
    done = evaluated(folder, "--engine", "classic", "--json", out)
    assert done.exit_code == 1
    assert "failed: aisle at 2 s: " in done.stderr
    assert "failed     1 of the labelled frames" in done.stdout
    found = json.loads(out.read_text())
    assert (found["failed"], found["scores"]["people"]["frames"]) == (1, 3)
    assert found["frames"][2]["error"] == "picture_truncated"


def test_a_data_set_that_is_wrong_ends_the_command_with_2_and_one_line(tmp_path: Path) -> None:
    folder = write_clip_dataset(tmp_path / "walk", [{"time_s": 1, "people_count": 1, "queue_length": 5}])
    done = evaluated(folder, "--engine", "classic")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "labels.jsonl, line 1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_could_not_be_written_in_the_end_is_refused_in_the_beginning(shop: Path, tmp_path: Path) -> None:
    done = evaluated(shop, "--engine", "classic", "--json", tmp_path / "nowhere" / "scores.json")
    assert done.exit_code == 2
    assert "there is no directory" in done.stderr
    assert "labelled frames" not in done.stderr


def test_an_engine_that_is_not_there_is_an_error_and_not_another_engine(shop: Path, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text(f"state_dir = '{tmp_path}'\n[vision]\nengine = 'classic'\n")
    done = CliRunner().invoke(main, ["--config", str(config), "eval", str(shop), "--engine", "llama"])
    assert done.exit_code == 2
    assert "vision.engine names llama, but" in done.stderr


@pytest.mark.llama
def test_the_model_of_the_settings_is_scored_and_the_report_says_which_it_was(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    ModelStore(tmp_path / "models").add("small", *write_gemma3(tmp_path))
    config, out = tmp_path / "receiver.toml", tmp_path / "scores.json"
    config.write_text(f"state_dir = '{tmp_path}'\n")
    folder = write_clip_dataset(tmp_path / "walk", EMPTY_THEN_SOMEBODY)
    arguments = ["--config", str(config), "eval", str(folder), "--labelled-only", "--json", str(out)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    (engine,) = found["engines"]
    assert (engine["engine"], engine["model"], engine["prompt_version"]) == ("llama", "small", SHOP_PROMPT)
    assert len(engine["model_sha256"]) == 64
    assert found["scores"]["people"]["frames"] == 2
