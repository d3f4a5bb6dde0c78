"""The JSON schema that a server holds its answers to: a `Scene`, for one camera's zones.

Plain enough for vLLM, llama-server and Ollama alike: no references, no patterns, every field required. What it says is
what `crow_receiver.vision.grammar` says to our own engine, but for confidences, which come in tenths.
"""

from collections.abc import Iterable
from typing import Any

from crow_receiver.vision.grammar import DESCRIPTION_CHARS, LEAST_DESCRIPTION_CHARS, PRODUCT_CHARS
from crow_receiver.vision.schema import MAX_INTERACTIONS, MAX_PEOPLE, Action, Activity, Movement, Role
from crow_shared.zones import ELSEWHERE_ZONE, UNKNOWN_ZONE, Zone

Schema = dict[str, Any]

# Listed one by one: llama.cpp, and so llama-server and Ollama, passes over the bounds of numbers that are no integers.
_SHARE: Schema = {"type": "number", "enum": [tenths / 10 for tenths in range(11)]}


def answer_schema(areas: Iterable[Zone], products: Iterable[str] = ()) -> Schema:
    """The schema for a camera with these areas, whose interactions are sorted into `products`, if any."""
    categories = list(products)
    category = {"category": _or_null(_one_of(categories))} if categories else {}
    zone = _one_of((*(area.name for area in areas), ELSEWHERE_ZONE, UNKNOWN_ZONE))
    person = _object(
        role=_one_of(Role), zone=zone, activity=_one_of(Activity), movement=_one_of(Movement), confidence=_SHARE
    )
    interaction = _object(
        action=_one_of(Action),
        product=_or_null({"type": "string", "minLength": 1, "maxLength": PRODUCT_CHARS}),
        **category,
        zone=zone,
        confidence=_SHARE,
    )
    return _object(
        people={"type": "array", "items": person, "maxItems": MAX_PEOPLE},
        interactions={"type": "array", "items": interaction, "maxItems": MAX_INTERACTIONS},
        queue_length=_or_null({"type": "integer", "minimum": 0, "maximum": 99}),
        confidence=_SHARE,
        description={"type": "string", "minLength": LEAST_DESCRIPTION_CHARS, "maxLength": DESCRIPTION_CHARS},
    )


def _one_of(names: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(dict.fromkeys(map(str, names)))}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
