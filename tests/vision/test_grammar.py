"""The grammar of answers: it allows valid scenes only, and all that they may say."""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_receiver.vision.grammar import Character, Choice, Literal, Node, Repeat, Sequence, answer_grammar
from crow_receiver.vision.schema import MAX_INTERACTIONS, MAX_PEOPLE, Action, Activity, Movement, Role, Scene

ZONES = ("Snacks", 'Tea "& more"', "back\\room", "Süßes 🍭", "line\nbreak", "]}{[", "a|b ::= c")
NAMES = st.text(min_size=1, max_size=60).filter(lambda name: name.encode("utf-8", "ignore").decode() == name)


@st.composite
def texts(draw: st.DrawFn, node: Node) -> str:
    """Any text of the grammar."""
    match node:
        case Literal(text):
            return text
        case Character(ranges):
            return draw(st.one_of([st.characters(min_codepoint=ord(r[0]), max_codepoint=ord(r[1])) for r in ranges]))
        case Sequence(parts):
            return "".join(draw(texts(part)) for part in parts)
        case Choice(options):
            return draw(texts(draw(st.sampled_from(options))))
        case Repeat(part, least, most):
            count = draw(st.sampled_from((least, most, min(most, least + 2))))
            return "".join(draw(texts(part)) for _ in range(count))


def longest(node: Node) -> str:
    match node:
        case Literal(text):
            return text
        case Character(ranges):
            return ranges[0][0]
        case Sequence(parts):
            return "".join(map(longest, parts))
        case Choice(options):
            return max(map(longest, options), key=lambda text: len(text.encode()))
        case Repeat(part, _, most):
            return longest(part) * most


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


@pytest.fixture(scope="module")
def accepts(small_gemma: tuple[Path, Path]) -> Any:
    """Whether llama.cpp's own grammar takes a whole text, token by token."""
    llama_cpp = pytest.importorskip("llama_cpp")
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(small_gemma[0]).encode(), parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    one = (llama_cpp.llama_token_data * 1)()

    def allows(grammar: Any, token: int) -> bool:
        one[0].id, one[0].logit, one[0].p = token, 1.0, 0.0
        array = llama_cpp.llama_token_data_array(data=one, size=1, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(grammar, ctypes.byref(array))
        return bool(one[0].logit != float("-inf"))

    def check(gbnf: str, text: str) -> bool:
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, len(tokens), False, False)
        grammar = llama_cpp.llama_sampler_init_grammar(vocabulary, gbnf.encode(), b"root")
        assert grammar, "the grammar compiles"
        try:
            for token in tokens[:count]:
                if not allows(grammar, token):
                    return False
                llama_cpp.llama_sampler_accept(grammar, token)
            return allows(grammar, llama_cpp.llama_vocab_eos(vocabulary))
        finally:
            llama_cpp.llama_sampler_free(grammar)

    yield check
    llama_cpp.llama_model_free(model)
    llama_cpp._utils.outnull_file.close()  # the library opens both when it is imported and never closes them
    llama_cpp._utils.errnull_file.close()


@pytest.mark.llama
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_llama_cpp_reads_the_grammar_as_it_is_meant(accepts: Any, data: st.DataObject) -> None:
    grammar = answer_grammar(ZONES)
    text = data.draw(texts(grammar.root))
    assert accepts(grammar.gbnf, text)
    assert not accepts(grammar.gbnf, text + "}")
    assert not accepts(grammar.gbnf, text[:-1])
    assert not accepts(grammar.gbnf, " " + text)


@pytest.mark.llama
@settings(max_examples=40, deadline=None)
@given(zones=st.lists(NAMES, max_size=8))
def test_llama_cpp_takes_any_zone_name_into_the_grammar(accepts: Any, zones: list[str]) -> None:
    grammar = answer_grammar(tuple(zones))
    assert accepts(grammar.gbnf, longest(grammar.root))


@pytest.mark.llama
def test_llama_cpp_refuses_words_that_are_not_of_the_schema(accepts: Any) -> None:
    grammar = answer_grammar(ZONES)
    text = longest(grammar.root)
    assert accepts(grammar.gbnf, text)
    for good, bad in (
        ('"customer"', '"burglar"'),
        ('"queue_length":null', '"queue_length":100'),
        ('"queue_length":null', '"queue_length":-1'),
        ('"confidence":0.00', '"confidence":1.1'),
        ('"confidence":0.00', '"confidence":0.000'),
        ('"people":[{', '"people": [{'),
    ):
        assert good in text
        assert not accepts(grammar.gbnf, text.replace(good, bad, 1)), bad
