"""Promise: a data set that contradicts itself is refused with place and reason, before any frame is described."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from evaluation_parts import write_clip_dataset

from crow_receiver.evaluation.dataset import load_dataset
from crow_receiver.evaluation.frames import frames_of
from crow_shared.errors import CrowError, Kind

ROOT = Path(__file__).parents[2]
REAL_CLIPS = ROOT / "bench/datasets/real-clips"
GOOD = {"time_s": 1, "people_count": 1}


def refusal(folder: Path) -> CrowError:
    with pytest.raises(CrowError) as caught:
        load_dataset(folder)
    return caught.value


def described(folder: Path, old: str, new: str) -> Path:
    """A good data set in whose description one thing is changed."""
    write_clip_dataset(folder, [GOOD])
    file = folder / "dataset.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return folder


def with_picture(folder: Path, file: object) -> Path:
    folder.mkdir(exist_ok=True)
    text = 'format = 1\nname = "pictures"\nlicence = "none"\nabout = ""\nlabelled = ["people_count"]\n'
    (folder / "dataset.toml").write_text(text + "[cameras.till]\nname = 'Till'\n")
    label = {"camera": "till", "time_s": 0, "people_count": 0} | ({} if file is None else {"file": file})
    (folder / "labels.jsonl").write_text(json.dumps(label))
    return folder


def test_a_clip_is_sampled_as_a_daemon_does_and_labels_find_their_frames(tmp_path: Path) -> None:
    dataset = load_dataset(write_clip_dataset(tmp_path, [GOOD, {"time_s": 2.5, "people_count": 1}]))
    frames = list(frames_of(dataset, "aisle"))
    assert [frame.time_s for frame in frames] == [0, 0.5, 1, 1.5, 2, 2.5], "and none after the last label"
    assert [frame.time_s for frame in frames if frame.label is not None] == [1, 2.5]
    steps_us = {later.request.capture_us - frame.request.capture_us for frame, later in pairwise(frames)}
    assert steps_us == {500_000}
    assert len({frame.request.coded for frame in frames}) == 6
    assert [frame.time_s for frame in frames_of(dataset, "aisle", labelled_only=True)] == [1, 2.5]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"people_count": 2, "people": [{}]}, "people_count is 2, but 1 people are listed"),
        ({"people_count": 0, "interactions": [{"action": "pickup"}]}, "nobody is there"),
        ({"people_count": 1, "queue_length": 2}, "2 people queue, but only 1 are there"),
        ({"people": [{"activity": "queueing"}], "queue_length": 0}, "1 people are labelled as queueing"),
        ({"people": [{"activity": "unknown"}]}, "leave out what is unknown"),
        ({"people": [{"activity": "dancing"}]}, "people.0.activity"),
        ({"people": [{"zone": "Cellar"}]}, "'Cellar' is no zone of camera 'aisle'"),
        ({"people_count": -1}, "people_count"),
        ({"people_count": 1, "mood": "good"}, "mood"),
        ({"people_count": 1, "time_s": 0.7}, "no multiple of the clip's interval_s"),
        ({"people_count": 1, "time_s": float("nan")}, "time_s"),
        ({"people_count": 1, "camera": "cellar"}, "there is no camera 'cellar'"),
        ({"people_count": 1, "file": "a.jpg"}, "has a clip"),
        ({"people_count": 1, "time_s": 1}, "comes after 1 s"),
        ({"people_count": 1, "time_s": 0.5}, "comes after 1 s"),
    ],
)
def test_a_label_that_contradicts_itself_or_the_data_set_is_refused_with_its_line(
    tmp_path: Path, label: dict[str, object], reason: str
) -> None:
    error = refusal(write_clip_dataset(tmp_path, [GOOD, {"time_s": 2} | label]))
    assert (error.kind, error.code) == (Kind.INVALID, "bad_dataset")
    assert "labels.jsonl, line 2: " in error.message
    assert reason in error.message


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"camera": "aisle"} trailing', "\x00"])
def test_a_line_that_is_no_label_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    write_clip_dataset(tmp_path, [GOOD])
    (tmp_path / "labels.jsonl").write_text(json.dumps({"camera": "aisle"} | GOOD) + f"\n{line}\n")
    assert "line 2" in refusal(tmp_path).message


def test_what_is_labelled_has_to_be_declared_and_what_is_declared_labelled(tmp_path: Path) -> None:
    undeclared = write_clip_dataset(tmp_path, [GOOD | {"queue_length": 0}], labelled=["people_count"])
    assert "line 1: queue_length: not among what is labelled" in refusal(undeclared).message
    nowhere = described(tmp_path, '["people_count"]', '["people_count", "queue_length"]')
    assert "queue_length: labelled according to dataset.toml, but nowhere" in refusal(nowhere).message


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("format = 1", "format = 2", "format"),
        ('name = "walk"', 'name = "A walk"', "name"),
        ("interval_s = 0.5", "", "belong together"),
        ("[1, 1]]", "[1, 7]]", "outside the picture"),
        ("'Shelf'", "'elsewhere'", "'elsewhere'"),
        ("licence", "price", "licence"),
        ("=", "", "dataset.toml"),
    ],
)
def test_a_description_that_is_wrong_is_refused_with_the_reason(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    error = refusal(described(tmp_path, old, new))
    assert (error.kind, error.code) == (Kind.INVALID, "bad_dataset")
    assert reason in error.message


def test_another_clip_than_the_labelled_one_is_refused_with_both_checksums(tmp_path: Path) -> None:
    write_clip_dataset(tmp_path, [GOOD])
    clip = next(tmp_path.glob("*.mp4"))
    clip.write_bytes(clip.read_bytes() + b"\0")
    error = refusal(tmp_path)
    assert (error.kind, error.code) == (Kind.CORRUPT, "clip_other")
    clip.unlink()
    assert refusal(tmp_path).kind is Kind.NOT_FOUND


def test_clips_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = write_clip_dataset(tmp_path / "set", [GOOD])
    elsewhere = tmp_path / "clips"
    elsewhere.mkdir()
    clip = next(folder.glob("*.mp4"))
    clip.rename(elsewhere / clip.name)
    assert len(list(frames_of(load_dataset(folder, elsewhere), "aisle"))) == 3
    assert refusal(folder).kind is Kind.NOT_FOUND


def test_a_label_beyond_the_clips_end_is_an_error_and_not_a_frame_less(tmp_path: Path) -> None:
    dataset = load_dataset(write_clip_dataset(tmp_path, [GOOD, {"time_s": 100, "people_count": 0}]))
    with pytest.raises(CrowError, match=r"at 100 s of camera 'aisle', but .* ends before it"):
        list(frames_of(dataset, "aisle"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (None, "needs a file"),
        ("nowhere.jpg", "there is no picture"),
        ("../labels.jsonl", "leads out of the data set"),
        ("/etc/hostname", "leads out of the data set"),
    ],
)
def test_a_picture_has_to_lie_within_the_data_set(tmp_path: Path, file: str | None, reason: str) -> None:
    assert reason in refusal(with_picture(tmp_path, file)).message


def test_a_picture_too_large_for_a_receiver_is_refused(tmp_path: Path) -> None:
    with_picture(tmp_path, "large.jpg")
    (tmp_path / "large.jpg").write_bytes(bytes((2 << 20) + 1))
    with pytest.raises(CrowError) as caught:
        list(frames_of(load_dataset(tmp_path), "till"))
    assert caught.value.kind is Kind.TOO_LARGE


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert error.kind is Kind.NOT_FOUND
    assert "dataset.toml" in error.message


def test_the_example_in_the_document_is_a_data_set(tmp_path: Path) -> None:
    text = (ROOT / "docs/EVALUATION.md").read_text()
    for language, file in (("toml", "dataset.toml"), ("json", "labels.jsonl")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
        (tmp_path / file).write_text(block)
    (tmp_path / "pictures").mkdir()
    for number in range(1, 4):
        (tmp_path / f"pictures/{number:04}.jpg").touch()
    dataset = load_dataset(tmp_path)
    assert (len(dataset.labels), dataset.labelled) == (3, 2)


def test_the_frames_counted_by_hand_are_those_of_the_clips(clips: Path) -> None:
    dataset = load_dataset(REAL_CLIPS, clips)
    assert dataset.labelled >= 60
    for camera in dataset.description.cameras:
        labelled = [frame for frame in frames_of(dataset, camera) if frame.label is not None]
        assert len(labelled) == len(dataset.of_camera(camera))
    counts = {label.people_count for label in dataset.labels}
    assert {0, 1, 3, 6, 9} <= counts
