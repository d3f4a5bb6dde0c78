"""From a model's answer to a scene, or to the reason why it is none."""

import re
from collections.abc import Iterable

from pydantic import ValidationError

from crow_receiver.vision.schema import Scene
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import ELSEWHERE_ZONE, UNKNOWN_ZONE, Zone

# The last ones turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def scene_of(text: str | bytes | bytearray, areas: Iterable[Zone] | None = None, products: Iterable[str] = ()) -> Scene:
    """The scene that the JSON tells of; with `areas`, one that speaks of these alone, and of `products` as categories.

    Its texts are on one line: control characters, which could steer a terminal that shows them, become spaces.

    Raises CrowError(INTERNAL) "answer_invalid" where it is not of the schema, speaks of other areas, or of crossings,
    which no model can tell from one frame.
    """
    try:
        scene = Scene.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _invalid(str(error)) from None
    if scene.crossings is not None:
        raise _invalid("it speaks of crossings, which one frame does not show")
    if areas is not None:
        known = {ELSEWHERE_ZONE, UNKNOWN_ZONE, *(area.name for area in areas)}
        spoken_of = {seen.zone for seen in scene.people} | {seen.zone for seen in scene.interactions}
        if not spoken_of <= known:
            raise _invalid(f"it speaks of {min(spoken_of - known)!r}, which is no zone of this camera")
        sorted_into = {seen.category for seen in scene.interactions if seen.category is not None}
        if others := sorted_into - set(products):
            raise _invalid(f"it sorts into {min(others)!r}, which is no category of this camera")
    interactions = [seen.model_copy(update={"product": _on_one_line(seen.product)}) for seen in scene.interactions]
    return scene.model_copy(update={"description": _on_one_line(scene.description), "interactions": interactions})


def _on_one_line(text: str | None) -> str | None:
    return text and _CONTROL.sub(" ", text)


def _invalid(why: str) -> CrowError:
    return CrowError(Kind.INTERNAL, "answer_invalid", f"the model's answer is not of the schema: {why}")
