"""The grammar of answers: it allows valid scenes only, and all that they may say."""

import json
from collections.abc import Iterator

import pytest
from grammar_texts import longest, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_receiver.vision.grammar import Choice, Literal, Node, Repeat, Sequence, answer_grammar
from crow_receiver.vision.schema import MAX_INTERACTIONS, MAX_PEOPLE, Action, Activity, Movement, Role, Scene

ZONES = ("Snacks", 'Tea "& more"', "back\\room", "Süßes 🍭", "line\nbreak", "]}{[", "a|b ::= c")
NAMES = st.text(min_size=1, max_size=60).filter(lambda name: name.encode("utf-8", "ignore").decode() == name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_text_of_the_grammar_is_a_valid_scene(data: st.DataObject) -> None:
    grammar = answer_grammar(ZONES)
    text = data.draw(texts(grammar.root))
    scene = Scene.model_validate_json(text)
    assert {person.zone for person in scene.people} <= {*ZONES, "elsewhere", "unknown"}
    assert len(text.encode()) <= grammar.longest_bytes


def test_the_longest_text_has_the_length_that_was_reckoned_and_is_a_valid_scene() -> None:
    grammar = answer_grammar(ZONES)
    text = longest(grammar.root)
    assert len(text.encode()) == grammar.longest_bytes
    scene = Scene.model_validate_json(text)
    assert (len(scene.people), len(scene.interactions)) == (MAX_PEOPLE, MAX_INTERACTIONS)


@given(st.lists(NAMES, max_size=32))
def test_any_zone_name_can_be_answered_and_comes_back_as_it_was(zones: list[str]) -> None:
    literals = {
        json.loads(node.text)
        for node in every_node(answer_grammar(tuple(zones)).root)
        if isinstance(node, Literal) and node.text.startswith('"')
        if node.text != '"'
    }
    assert {*zones, "elsewhere", "unknown"} <= literals


def every_node(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case Sequence(parts):
            children = parts
        case Choice(options):
            children = options
        case Repeat(part):
            children = (part,)
        case _:
            children = ()
    for child in children:
        yield from every_node(child)


@pytest.mark.parametrize("name", [*Role, *Activity, *Movement, *Action])
def test_every_word_of_the_schema_can_be_answered(name: str) -> None:
    assert Literal(f'"{name}"') in set(every_node(answer_grammar(()).root))
