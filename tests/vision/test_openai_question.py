"""What servers are given: a picture of bounded size, and a schema that says what our own grammar says."""

import base64
import json

import cv2
import numpy as np
from grammar_texts import texts
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from vision_parts import ZONES, request

from crow_receiver.vision.answers import scene_of
from crow_receiver.vision.grammar import answer_grammar
from crow_receiver.vision.openai.answer_schema import answer_schema
from crow_receiver.vision.openai.question import question_of
from crow_receiver.vision.prompt import load_prompt


def test_a_large_picture_is_made_smaller_in_its_shape() -> None:
    for shape, expected in (((1080, 1920), (504, 896, 3)), ((4000, 2), (896, 1, 3)), ((896, 896), (896, 896, 3))):
        body = question_of(request(b""), np.zeros((*shape, 3), np.uint8), load_prompt(), 896, 512)
        data = base64.b64decode(body["messages"][0]["content"][1]["image_url"]["url"].partition(",")[2])
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert decoded.shape == expected


@settings(max_examples=30)
@given(st.data())
def test_the_schema_allows_what_the_grammar_of_llama_allows_with_confidences_in_tenths(data: st.DataObject) -> None:
    names = tuple(zone.name for zone in ZONES)
    answer = json.loads(data.draw(texts(answer_grammar(names).root)))
    for part in (answer, *answer["people"], *answer["interactions"]):
        part["confidence"] = round(part["confidence"], 1)
    Draft202012Validator(answer_schema(ZONES)).validate(answer)
    assert scene_of(json.dumps(answer), ZONES)
