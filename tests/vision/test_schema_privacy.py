"""An analysis has no place for what a person feels, is or is called."""

import json

import pytest
from pydantic import ValidationError

from crow_receiver.vision.openai.answer_schema import answer_schema
from crow_receiver.vision.schema import Person, Scene
from crow_receiver.vision.zones import THIRDS

FORBIDDEN = (
    *("emotion", "mood", "feeling", "sentiment", "happy", "angry", "identity", "name", "face", "biometric", "gender"),
    *("sex", "age", "ethnic", "race", "skin", "religion", "nationality", "health", "disability", "pregnan", "weight"),
)
SOMEBODY = {"role": "customer", "zone": "left", "activity": "walking", "movement": "left", "confidence": 0.5}


def words(schema: object) -> set[str]:
    """The names of all fields, and all values that a field may have."""
    if isinstance(schema, list):
        return set().union(*map(words, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) | {str(value) for value in schema.get("enum", ())}
    return own.union(*(words(value) for value in schema.values()))


@pytest.mark.parametrize("schema", [Scene.model_json_schema(), answer_schema(THIRDS)], ids=["ours", "servers'"])
def test_no_field_and_no_value_tells_of_feelings_identity_origin_or_health(schema: object) -> None:
    parts = {part for word in words(schema) for part in word.split("_")}
    assert {"role", "walking"} <= parts, "it looks at fields and values"
    assert not {part for part in parts for word in FORBIDDEN if part.startswith(word)}, json.dumps(sorted(parts))


@pytest.mark.parametrize("field", FORBIDDEN)
def test_an_answer_that_tells_of_it_all_the_same_is_refused(field: str) -> None:
    assert Person.model_validate(SOMEBODY)
    with pytest.raises(ValidationError):
        Person.model_validate(SOMEBODY | {field: "x"})
