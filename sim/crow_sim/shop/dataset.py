"""The rendered shop as a data set that engines are scored on; docs/EVALUATION.md describes the format.

A frame that leaves a doubt has no label, as where people label by hand: one in which somebody is seen in part only, at
the picture's edge or behind others. Somebody of whom nothing is seen is not there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Scene
from crow_sim.shop.truth import Activity, FrameTruth
from crow_sim.shop.view import View

_LEAST_SHOWN, _DOUBTFUL = 0.02, 0.25  # shares of a person: up to the first nobody is there, from the second on somebody
_JPEG_QUALITY = 90
_TRAITS = ("role", "zone", "activity", "movement")


def write_dataset(
    folder: Path,
    views: tuple[View, ...],
    seconds: float,
    interval_s: float = 1.0,
    seed: int = 1,
    sign: str = "",
    size: tuple[int, int] = (1280, 720),
) -> int:
    """Writes pictures (JPEG), `labels.jsonl` and `dataset.toml` of one camera per view; returns how many frames.

    Raises OSError.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    labels = []
    for view in views:
        planned = planned_scene(view, seed, seconds)
        renderer = Renderer(Scene(view, planned.visits, seed=seed, sign=sign), *size)
        for number in range(round(seconds / interval_s)):
            time_s = round(number * interval_s, 6)
            file = f"pictures/{view.name}-{number:05}.jpg"
            _, jpeg = cv2.imencode(".jpg", renderer.picture(time_s), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            (folder / file).write_bytes(jpeg.tobytes())
            known = _known(renderer.truth(time_s), renderer.shown(time_s), has_till=view.till is not None)
            labels.append({"camera": view.name, "time_s": time_s, "file": file} | known)
    (folder / "labels.jsonl").write_text("".join(f"{json.dumps(label)}\n" for label in labels), encoding="utf-8")
    (folder / "dataset.toml").write_text("\n".join(_description(views, labels, sign)) + "\n", encoding="utf-8")
    return len(labels)


def _known(truth: FrameTruth, shown: dict[str, float], *, has_till: bool) -> dict[str, Any]:
    """What can be said of a picture: nothing where somebody is neither really there nor really away."""
    if any(_LEAST_SHOWN < share < _DOUBTFUL for share in shown.values()):
        return {}
    people = [person for person in truth.people if shown[person.person] >= _DOUBTFUL]
    there = {person.person for person in people}
    interactions = [
        {"action": one.action} | ({"product": one.product} if one.product is not None else {})
        for one in truth.interactions
        if one.person in there
    ]
    queue_length = sum(person.activity is Activity.QUEUEING for person in people)
    return {
        "people_count": len(people),
        "people": [{trait: getattr(person, trait) for trait in _TRAITS} for person in people],
        "interactions": interactions,
    } | ({"queue_length": queue_length} if has_till else {})


def _description(views: tuple[View, ...], labels: list[dict[str, Any]], sign: str) -> Iterator[str]:
    labelled = [name for name in ("people_count", "interactions", "queue_length") if any(name in one for one in labels)]
    if any(one.get("people") for one in labels):
        labelled += _TRAITS
    about = "A rendered shop; what it shows is known exactly"
    yield "format = 1"
    yield 'name = "rendered-shop"'
    yield 'licence = "Apache-2.0"'
    yield f"about = {json.dumps(f'{about}. A board says: {sign}' if sign else about)}"
    yield f"labelled = {json.dumps(labelled)}"
    for view in views:
        yield f"\n[cameras.{view.name}]\nname = {json.dumps(view.name)}"
        for number, zone in enumerate(view.zones):
            left, right = number / len(view.zones), (number + 1) / len(view.zones)
            points = [[left, 0.0], [right, 0.0], [right, 1.0], [left, 1.0]]
            yield f"\n[[cameras.{view.name}.zones]]\nname = {json.dumps(zone)}\npoints = {json.dumps(points)}"
