"""Data sets for tests: what engines say, and folders with labels."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from crow_receiver.vision.schema import Action, Activity, Movement, Person, ProductInteraction, Role, Scene
from crow_sim.shop import small_clip

LABELLED = ("people_count", "role", "zone", "activity", "movement", "interactions", "queue_length")


def person(
    activity: str = "unknown", zone: str = "unknown", role: str = "unknown", movement: str = "unknown"
) -> Person:
    return Person(role=Role(role), zone=zone, activity=Activity(activity), movement=Movement(movement), confidence=0.5)


def scene(people: Iterable[Person] = (), actions: Iterable[str] = (), queue_length: int | None = None) -> Scene:
    interactions = [
        ProductInteraction(action=Action(action), product=None, zone="unknown", confidence=0.5) for action in actions
    ]
    return Scene(
        people=list(people),
        interactions=interactions,
        queue_length=queue_length,
        confidence=0.5,
        description="What the picture shows.",
    )


@cache
def _clip() -> bytes:
    with TemporaryDirectory() as place:
        return small_clip(Path(place)).read_bytes()


def write_clip_dataset(
    folder: Path, labels: Iterable[Mapping[str, object]], labelled: Iterable[str] = LABELLED
) -> Path:
    """A data set of one camera, `aisle`, with a clip of 6 s in which one person walks; returns the folder."""
    folder.mkdir(exist_ok=True)
    clip = folder / "walk.mp4"
    clip.write_bytes(_clip())
    used = [name for name in labelled if name in json.dumps(list(labels))]
    text = [
        'format = 1\nname = "walk"\nlicence = "none"\nabout = "one walks"',
        f"labelled = {json.dumps(used)}\n[cameras.aisle]\nname = 'Aisle'\ninterval_s = 0.5\nclip = '{clip.name}'",
        f"sha256 = '{sha256(clip.read_bytes()).hexdigest()}'",
        "[[cameras.aisle.zones]]\nname = 'Shelf'\npoints = [[0, 0], [1, 0], [1, 1]]\n",
    ]
    (folder / "dataset.toml").write_text("\n".join(text))
    lines = [json.dumps({"camera": "aisle"} | dict(label)) for label in labels]
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n")
    return folder
