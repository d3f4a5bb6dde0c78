"""The grammar as the engine reads it: it takes what the grammar allows, and nothing else."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grammar_texts import gbnf, longest, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_receiver.vision.grammar import Character, Choice, Literal, Node, Repeat, Sequence, answer_grammar
from crow_receiver.vision.llama.automaton import Automaton, automaton_of

ZONES = ("Snacks", 'Tea "& more"', "back\\room", "Süßes 🍭", "line\nbreak", "]}{[", "a|b ::= c")
SCENE = answer_grammar(ZONES).root
LETTERS = st.sampled_from("ab")
SMALL_NODES = st.recursive(
    st.builds(Literal, st.text("ab", min_size=1, max_size=3)) | st.just(Character(("ab",))),
    lambda nodes: (
        st.builds(Sequence, st.lists(nodes, min_size=1, max_size=3).map(tuple))
        | st.builds(Choice, st.lists(nodes, min_size=1, max_size=3).map(tuple))
        | st.builds(Repeat, nodes, st.integers(0, 2), st.integers(2, 3))
    ),
    max_leaves=6,
)


def language(node: Node, most: int) -> set[str]:
    """All texts of a small grammar up to a length, by the plainest means."""
    match node:
        case Literal(text):
            return {text} if len(text) <= most else set()
        case Character(ranges):
            return {chr(code) for first, last in ranges for code in range(ord(first), ord(last) + 1)}
        case Sequence(parts):
            found = {""}
            for part in parts:
                found = {a + b for a in found for b in language(part, most) if len(a + b) <= most}
            return found
        case Choice(options):
            return set().union(*(language(option, most) for option in options))
        case Repeat(part, least, most_times):
            of_part = language(part, most)
            found, done = set(), {""}
            for times in range(most_times + 1):
                if times >= least:
                    found |= done
                done = {a + b for a in done for b in of_part if len(a + b) <= most}
            return found


@settings(max_examples=300, deadline=None)
@given(node=SMALL_NODES, text=st.text("ab", max_size=6))
def test_a_text_is_taken_exactly_if_it_is_of_the_grammar(node: Node, text: str) -> None:
    state = Automaton(node).start.after(text.encode())
    assert (state is not None and state.complete) == (text in language(node, 6))


@settings(max_examples=200, deadline=None)
@given(node=SMALL_NODES, text=st.text("ab", max_size=4))
def test_what_is_forced_is_what_all_texts_have_in_common(node: Node, text: str) -> None:
    state = Automaton(node).start.after(text.encode())
    beginnings = {whole[len(text) :] for whole in language(node, 40) if whole.startswith(text)}
    if state is None:
        assert not beginnings
        return
    forced = state.forced().decode()
    assert all(rest.startswith(forced) for rest in beginnings)
    after = state.after(forced.encode())
    assert after is not None
    following = {rest[len(forced) : len(forced) + 1] for rest in beginnings}
    assert after.complete or len(following) > 1 or "" in following


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_answer_is_taken_and_none_that_is_cut_or_goes_on(data: st.DataObject) -> None:
    text = data.draw(texts(SCENE)).encode()
    start = automaton_of(SCENE).start
    end = start.after(text)
    assert end is not None
    assert end.complete
    assert end.after(b" ") is None
    cut = start.after(text[: data.draw(st.integers(0, len(text) - 1))])
    assert cut is not None
    assert not cut.complete


def test_the_longest_answer_is_taken_and_a_longer_one_is_not() -> None:
    text = longest(SCENE)
    start = automaton_of(SCENE).start
    end = start.after(text.encode())
    assert end is not None
    assert end.complete
    assert start.after(text.replace('"}', ' "}').encode()) is None


@settings(max_examples=40, deadline=None)
@given(zones=st.lists(st.text(min_size=1, max_size=60).filter(lambda name: max(name) <= "\ud7ff"), max_size=8))
def test_any_zone_name_can_be_answered(zones: list[str]) -> None:
    root = answer_grammar(tuple(zones)).root
    end = Automaton(root).start.after(longest(root).encode())
    assert end is not None
    assert end.complete


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"customer"', '"burglar"'),
        ('"queue_length":null', '"queue_length":100'),
        ('"queue_length":null', '"queue_length":-1'),
        ('"confidence":0.00', '"confidence":1.1'),
        ('"confidence":0.00', '"confidence":0.000'),
        ('"people":[{', '"people": [{'),
    ],
)
def test_what_is_not_of_the_schema_cannot_be_answered(good: str, bad: str) -> None:
    text = longest(SCENE)
    assert good in text
    state = automaton_of(SCENE).start.after(text.replace(good, bad, 1).encode())
    assert state is None or not state.complete


def test_keys_are_forced_and_values_are_not() -> None:
    start = automaton_of(SCENE).start
    assert start.forced() == b'{"people":['
    person = start.after(b'{"people":[{"role":"c')
    assert person is not None
    assert person.forced() == b'ustomer","zone":"'


def test_a_zone_name_is_forced_up_to_where_others_part_from_it_also_within_a_character() -> None:
    start = Automaton(Choice((Literal("ü"), Literal("ö")))).start
    assert start.forced() == "ü".encode()[:1]


@pytest.fixture(scope="module")
def llama_takes(small_gemma: tuple[Path, Path]) -> Iterator[Callable[[str, bytes], bool]]:
    """Whether llama.cpp's grammar takes a whole text, byte by byte."""
    llama_cpp = pytest.importorskip("llama_cpp")
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(small_gemma[0]).encode(), parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    one = (llama_cpp.llama_token_data * 1)()
    first_byte = next(token for token in range(400) if llama_cpp.llama_vocab_get_text(vocabulary, token) == b"<0x00>")

    def allows(grammar: object, token: int) -> bool:
        one[0].id, one[0].logit, one[0].p = token, 1.0, 0.0
        array = llama_cpp.llama_token_data_array(data=one, size=1, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(grammar, ctypes.byref(array))
        return bool(one[0].logit != float("-inf"))

    def takes(grammar_text: str, text: bytes) -> bool:
        grammar = llama_cpp.llama_sampler_init_grammar(vocabulary, grammar_text.encode(), b"root")
        assert grammar, "the grammar compiles"
        try:
            for byte in text:
                if not allows(grammar, first_byte + byte):
                    return False
                llama_cpp.llama_sampler_accept(grammar, first_byte + byte)
            return allows(grammar, llama_cpp.llama_vocab_eos(vocabulary))
        finally:
            llama_cpp.llama_sampler_free(grammar)

    yield takes
    llama_cpp.llama_model_free(model)


@pytest.mark.llama
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_llama_cpp_takes_and_refuses_the_same_texts(
    llama_takes: Callable[[str, bytes], bool], data: st.DataObject
) -> None:
    text = data.draw(texts(SCENE))
    place = data.draw(st.integers(0, len(text)))
    changed = text[:place] + data.draw(st.sampled_from(('"', "}", "0", " ", "", "x"))) + text[place + 1 :]
    for candidate in (text, changed):
        state = automaton_of(SCENE).start.after(candidate.encode())
        ours = state is not None and state.complete
        assert llama_takes(f"root ::= {gbnf(SCENE)}\n", candidate.encode()) == ours, candidate
