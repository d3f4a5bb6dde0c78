"""Answers in the letters of any language, and interactions sorted into the operator's categories, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from vision_parts import ZONES

from crow_receiver.vision.answers import scene_of
from crow_receiver.vision.grammar import answer_grammar
from crow_receiver.vision.llama.automaton import Automaton, State
from crow_receiver.vision.openai.answer_schema import answer_schema
from crow_shared.errors import CrowError

NAMES = tuple(zone.name for zone in ZONES)
PRODUCTS = ("Brot", "Süßes")
START: State = Automaton(answer_grammar(NAMES, PRODUCTS, foreign=True).root).start
LETTERS = st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters='"\\', max_codepoint=0xFFFF)


def answer(description: str, category: str | None = "Brot", product: str | None = "Weißbrot") -> str:
    interaction = {"action": "pickup", "product": product, "category": category, "zone": "Snacks", "confidence": 0.5}
    said = {
        "people": [],
        "interactions": [interaction],
        "queue_length": None,
        "confidence": 0.5,
        "description": description,
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def taken(text: str) -> State | None:
    return START.after(text.encode())


@pytest.mark.parametrize(
    "description",
    [
        "Eine Kundin nimmt ein Brötchen aus dem Regal.",
        "Покупатель берёт хлеб с полки у кассы.",  # noqa: RUF001 — Russian
        "一位顾客站在货架旁边拿起面包,另一位顾客在收银台排队等候。",
        "زبون يقف بجانب الرف ويأخذ الخبز.",
    ],
)
def test_descriptions_of_any_script_are_taken_and_understood(description: str) -> None:
    end = taken(answer(description))
    assert end is not None
    assert end.complete
    assert scene_of(answer(description), ZONES, PRODUCTS).description == description


@given(st.text(LETTERS, min_size=20, max_size=240).filter(lambda text: text[0] != " "))
def test_every_printable_text_of_the_common_scripts_is_taken(description: str) -> None:
    assert taken(answer(description)) is not None


@pytest.mark.parametrize("character", ["\x80", "\x9f", "\x1b", "\ud800", "😀"])
def test_control_characters_surrogates_and_pictures_are_not(character: str) -> None:
    text = answer("A" * 20 + character).encode("utf-8", "surrogatepass")
    assert START.after(text) is None


def test_half_a_character_is_not_where_a_text_may_end() -> None:
    cut = answer("Eine Kundin nimmt ein Brö").encode().removesuffix(b'"}')[:-1]
    state = START.after(cut)
    assert state is not None
    assert state.after(b'"') is None


def test_the_longest_answer_in_any_language_is_not_much_longer_than_in_english() -> None:
    english, foreign = answer_grammar(NAMES), answer_grammar(NAMES, foreign=True)
    assert english.longest_bytes < foreign.longest_bytes < english.longest_bytes + 1000


def test_english_answers_are_in_english_letters() -> None:
    start = Automaton(answer_grammar(NAMES, PRODUCTS).root).start
    assert start.after(answer("A customer takes a bread roll.", product="roll").encode()) is not None
    assert start.after(answer("A customer takes a brötchen.", product="roll").encode()) is None


@pytest.mark.parametrize("category", ["Brot", "Süßes", None])
def test_interactions_are_sorted_into_what_is_listed_or_into_nothing(category: str | None) -> None:
    text = answer("Eine Kundin nimmt ein Brot.", category)
    assert taken(text) is not None
    Draft202012Validator(answer_schema(ZONES, PRODUCTS)).validate(json.loads(text))
    assert scene_of(text, ZONES, PRODUCTS).interactions[0].category == category


def test_a_category_that_is_not_listed_is_refused_everywhere() -> None:
    text = answer("Eine Kundin nimmt ein Brot.", "Wein")
    assert taken(text) is None
    with pytest.raises(ValidationError):
        Draft202012Validator(answer_schema(ZONES, PRODUCTS)).validate(json.loads(text))
    with pytest.raises(CrowError, match="no category of this camera"):
        scene_of(text, ZONES, PRODUCTS)


def test_a_camera_without_categories_is_not_asked_for_any() -> None:
    assert "category" not in json.dumps(answer_schema(ZONES))
    assert Automaton(answer_grammar(NAMES).root).start.after(answer("A customer takes bread.").encode()) is None
