"""Frames that go on together: each is answered as if it were alone, whatever the others do.

The model follows a script, so that every answer is known and no tie can excuse a wrong one; a frame that saw anything
of another one, or of the slot's frame before, would say something else.
"""

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.llama

from scripted_gemma import SCRIPT, Party, scenes  # noqa: E402 — needs the library

from crow_receiver.vision.llama.model import GemmaModel  # noqa: E402
from crow_receiver.vision.llama.plan import most_logits  # noqa: E402
from crow_shared.errors import CrowError, Kind  # noqa: E402
from crow_sim.gemma.script import OPTIONS  # noqa: E402

WAYS = [{"guesses": guesses, "forced_text": forced} for guesses in (True, False) for forced in (True, False)]
parties: dict[tuple[int, bool, bool], Party] = {}


def party(model: GemmaModel, slots: int, guesses: bool, forced_text: bool) -> Party:
    """Contexts are never freed, so the examples of a test share them; that makes leaks likelier, too."""
    key = (slots, guesses, forced_text)
    if key not in parties:
        parties[key] = Party(model, slots=slots, guesses=guesses, forced_text=forced_text)
    return parties[key]


SCENES = st.tuples(*[st.integers(0, OPTIONS - 1)] * SCRIPT.choices)
MOVES = st.lists(
    st.one_of(
        st.just("step"),
        st.tuples(st.just("begin"), st.integers(0, 2), st.sampled_from("xyz"), st.integers(0, 9)),
        st.tuples(st.just("abort"), st.integers(0, 7)),
        st.just("step"),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(moves=MOVES, pool=st.lists(SCENES, min_size=3, max_size=3), slots=st.integers(1, 8), way=st.sampled_from(WAYS))
def test_any_interleaving_of_frames_gives_each_its_own_answer(
    scripted_gemma: GemmaModel,
    moves: list[tuple[str, ...]],
    pool: list[tuple[int, ...]],
    slots: int,
    way: dict[str, bool],
) -> None:
    shop = party(scripted_gemma, slots, **way)
    keys = itertools.count()
    try:
        for move in moves:
            match move:
                case ("begin", scene, camera, words) if len(shop.under_way) < slots:
                    shop.begin(next(keys), pool[scene], camera, before="well " * words)
                case ("abort", place) if place < len(shop.under_way):
                    shop.abort(list(shop.under_way)[place])
                case _:
                    assert not shop.step()
        assert not shop.finish()
    finally:
        for key in list(shop.under_way):
            shop.abort(key)


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_is_answered_the_same_with_and_without_neighbours(
    scripted_gemma: GemmaModel, way: dict[str, bool]
) -> None:
    shop = party(scripted_gemma, 8, **way)
    for key, scene in enumerate(itertools.islice(scenes(seed=1), 8)):
        shop.begin(key, scene, camera=str(key))
    assert not shop.finish()


def test_guesses_are_right_on_a_still_scene_and_cost_steps_only_where_it_changes(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=1)
    still = (1,) * SCRIPT.choices

    def steps(scene: tuple[int, ...]) -> int:
        shop.begin(0, scene)
        count = 0
        while shop.under_way:
            assert not shop.step()
            count += 1
        return count

    first = steps(still)
    steps(still)
    assert steps(still) <= first / 4
    assert shop.usages[-1].accepted == shop.usages[-1].drafted > 10
    assert steps((2, *still[1:])) < first


def test_a_frame_that_ends_is_replaced_while_the_others_go_on(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=2, guesses=False)
    scene = scenes(seed=2)
    shop.begin(0, next(scene))
    for _ in range(5):
        shop.step()
    shop.begin(1, next(scene))
    while 0 in shop.under_way:
        shop.step()
    assert 1 in shop.under_way
    shop.begin(2, next(scene))
    assert not shop.finish()


def test_one_frame_too_many_is_refused_and_the_others_are_not_disturbed(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=2)
    scene = scenes(seed=3)
    shop.begin(0, next(scene))
    shop.begin(1, next(scene))
    with pytest.raises(CrowError) as caught:
        shop.begin(2, next(scene))
    assert (caught.value.kind, caught.value.code) == (Kind.EXHAUSTED, "no_slot")
    assert not shop.finish()


@pytest.mark.parametrize("after_steps", range(12))
def test_a_frame_is_aborted_in_any_phase_and_its_slot_is_free_and_clean(
    scripted_gemma: GemmaModel, after_steps: int
) -> None:
    shop = party(scripted_gemma, 2, guesses=True, forced_text=True)
    scene = scenes(seed=after_steps)
    shop.begin(0, next(scene))
    shop.begin(1, next(scene))
    for _ in range(after_steps):
        shop.step()
    for key in [key for key in (0, 1) if key in shop.under_way][:1]:
        shop.abort(key)
    shop.batch.abort(99)  # nobody knows it: it may have ended just now
    shop.begin(2, next(scene))
    assert not shop.finish()


def test_one_picture_at_most_is_encoded_between_two_steps_of_the_others(
    scripted_gemma: GemmaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Party(scripted_gemma, slots=8, guesses=False)
    happened: list[str] = []
    for owner, name in ((shop.batch, "_encode"), (shop.evaluator, "read")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), name, happened))
    scene = scenes(seed=4)
    shop.begin(0, next(scene))
    for _ in range(3):
        shop.step()
    for key in range(1, 8):
        shop.begin(key, next(scene))
    assert not shop.finish()
    assert happened.count("_encode") == 8
    assert ("_encode", "_encode") not in set(itertools.pairwise(happened))


def noted(function, name: str, happened: list[str]):  # noqa: ANN001, ANN201 — any function
    def call(*arguments: object) -> object:
        happened.append(name)
        return function(*arguments)

    return call


def test_questions_longer_than_a_batch_are_read_in_parts_and_hold_nobody_up(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=3, batch_tokens=scripted_gemma.image_tokens, context_tokens=2048)
    scene = scenes(seed=5)
    shop.begin(0, next(scene))
    shop.begin(1, next(scene), before="so " * 300)
    shop.begin(2, next(scene), before="so " * 200)
    while 0 in shop.under_way:
        assert not shop.step()
    assert len(shop.under_way) == 2
    assert not shop.finish()


def test_all_slots_hold_their_whole_context_at_once(scripted_gemma: GemmaModel) -> None:
    longest = len(scripted_gemma.beginning("")) + 800
    shop = Party(scripted_gemma, slots=4, context_tokens=longest)
    scene = scenes(seed=6)
    for key in range(4):
        shop.begin(key, next(scene), camera=str(key), before="s" * 550)
    assert not shop.finish()


def test_a_batch_of_more_frames_than_rows_for_guesses_still_goes_on(scripted_gemma: GemmaModel) -> None:
    shop = party(scripted_gemma, 8, guesses=True, forced_text=True)
    shop.evaluator.most_logits, most = 9, shop.evaluator.most_logits
    try:
        for key, scene in enumerate(itertools.islice(scenes(seed=7), 8)):
            shop.begin(key, scene)
        assert not shop.finish()
    finally:
        shop.evaluator.most_logits = most
    assert most == most_logits(8)


def test_two_hundred_frames_take_no_more_memory_than_fifty(scripted_gemma: GemmaModel) -> None:
    shop = party(scripted_gemma, 8, guesses=True, forced_text=True)
    scene, drawn = scenes(seed=8), random.Random(8)
    resident: list[int] = []
    for key in range(200):
        while len(shop.under_way) == 8 or (shop.under_way and drawn.random() < 0.3):
            assert not shop.step()
        shop.begin(key, next(scene), camera=str(key % 5))
        if key == 50:
            resident.append(resident_bytes())
    assert not shop.finish()
    resident.append(resident_bytes())
    assert resident[1] - resident[0] < 4 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
