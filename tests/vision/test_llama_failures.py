"""Numbers that are none, failing evaluations, dead ends: each costs the frame that brought it, and no other."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.llama

from scripted_gemma import PICTURE, Party, options, scenes  # noqa: E402 — needs the library

from crow_receiver.vision.grammar import Literal, Repeat  # noqa: E402
from crow_receiver.vision.llama.answer import Answer  # noqa: E402
from crow_receiver.vision.llama.automaton import Automaton  # noqa: E402
from crow_receiver.vision.llama.evaluator import Evaluator  # noqa: E402
from crow_receiver.vision.llama.model import Embeddings, GemmaModel  # noqa: E402
from crow_receiver.vision.pixels import Pixels  # noqa: E402
from crow_receiver.vision.port import Usage  # noqa: E402
from crow_shared.errors import CrowError, Kind  # noqa: E402

POISON = "Z"
_Q8_0_BLOCK_BYTES = 34


@pytest.fixture(scope="module")
def poisoned_gemma(scripted_gemma_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> GemmaModel:
    """A model for which one letter is no number."""
    model, mmproj = scripted_gemma_files
    poisoned = tmp_path_factory.mktemp("poisoned") / "model.gguf"
    shutil.copyfile(model, poisoned)
    reader = GGUFReader(poisoned, "r+")
    tokens = reader.fields["tokenizer.ggml.tokens"]
    (letter,) = [place for place, part in enumerate(tokens.data) if bytes(tokens.parts[part]) == POISON.encode()]
    (embeddings,) = [tensor for tensor in reader.tensors if tensor.name == "token_embd.weight"]
    blocks = embeddings.data[letter].reshape(-1, _Q8_0_BLOCK_BYTES)
    blocks[:, :2] = np.frombuffer(np.float16(np.nan).tobytes(), np.uint8)
    embeddings.data.flush()
    return GemmaModel(poisoned, mmproj, options())


@pytest.mark.parametrize("flash_attention", ["auto", "off"])
@pytest.mark.parametrize("place", [0, 3])
def test_a_frame_of_which_no_number_comes_fails_alone(
    poisoned_gemma: GemmaModel, place: int, flash_attention: str
) -> None:
    shop = Party(poisoned_gemma, slots=4, flash_attention=flash_attention)
    for key, scene in enumerate(itertools.islice(scenes(seed=1), 4)):
        shop.begin(key, scene, before=POISON if key == place else "")
    failed = shop.finish()
    assert {key: (error.kind, error.code) for key, error in failed.items()} == {place: (Kind.INTERNAL, "model_nan")}


def test_what_was_no_number_is_gone_when_its_slot_is_used_again(poisoned_gemma: GemmaModel) -> None:
    shop = Party(poisoned_gemma, slots=1)
    scene = scenes(seed=2)
    for key in range(6):
        shop.begin(key, next(scene), before=POISON if key % 2 else "")
        assert list(shop.finish()) == ([key] if key % 2 else [])


def test_two_bad_frames_among_good_ones_fail_and_those_that_come_meanwhile_do_not(poisoned_gemma: GemmaModel) -> None:
    shop = Party(poisoned_gemma, slots=4)
    scene, failed = scenes(seed=3), {}
    for key in range(12):
        while len(shop.under_way) == 4:
            failed |= shop.step()
        shop.begin(key, next(scene), camera=str(key), before=POISON if key in (1, 6) else "")
        failed |= shop.step()
    failed |= shop.finish()
    assert sorted(failed) == [1, 6]


def test_a_suspect_that_is_aborted_while_it_waits_for_its_turn_is_gone(poisoned_gemma: GemmaModel) -> None:
    shop = Party(poisoned_gemma, slots=3)
    scene = scenes(seed=4)
    for key in range(3):
        shop.begin(key, next(scene), before=POISON if key == 0 else "")
    for _ in range(4):
        shop.step()
    shop.abort(2)
    shop.abort(min(shop.under_way))
    shop.begin(3, next(scene))
    assert not [key for key in shop.finish() if key != 0]


def test_a_picture_of_which_no_number_comes_never_reaches_the_text_model(
    scripted_gemma: GemmaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Party(scripted_gemma, slots=2)
    scene = scenes(seed=5)
    shop.begin(0, next(scene))
    shop.begin(1, next(scene))
    encode = shop.batch._encode
    calls = itertools.count()

    def once_broken(picture: Pixels) -> Embeddings:
        if next(calls) == 0:
            raise CrowError(Kind.INTERNAL, "model_nan", "the vision tower's numbers are no numbers")
        return encode(picture)

    monkeypatch.setattr(shop.batch, "_encode", once_broken)
    failed = shop.finish()
    assert {key: error.code for key, error in failed.items()} == {0: "model_nan"}


def test_a_tower_of_which_no_number_comes_is_noticed(scripted_gemma_files: tuple[Path, Path], tmp_path: Path) -> None:
    model, mmproj = scripted_gemma_files
    broken = tmp_path / "mmproj.gguf"
    shutil.copyfile(mmproj, broken)
    reader = GGUFReader(broken, "r+")
    (norm,) = [tensor for tensor in reader.tensors if tensor.name == "v.post_ln.weight"]
    norm.data[:] = np.nan
    norm.data.flush()
    with pytest.raises(CrowError) as caught:
        GemmaModel(model, broken, options()).encode(PICTURE)
    assert caught.value.code == "model_nan"


@pytest.mark.parametrize("name", ["see", "read"])
def test_a_failing_evaluation_costs_no_frame_that_it_does_not_fail_for_alone(
    scripted_gemma: GemmaModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shop = Party(scripted_gemma, slots=3)
    for key, scene in enumerate(itertools.islice(scenes(seed=6), 3)):
        shop.begin(key, scene)
    works, calls = getattr(shop.evaluator, name), itertools.count()

    def fails_once(*arguments: object) -> object:
        done = works(*arguments)
        if next(calls) == 0:
            raise CrowError(Kind.INTERNAL, "model_failed", "llama_decode returned -3")
        return done

    monkeypatch.setattr(shop.evaluator, name, fails_once)
    assert not shop.finish()


def test_a_model_that_fails_without_any_frame_is_given_up(
    scripted_gemma: GemmaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Party(scripted_gemma, slots=1)

    def fails(self: Evaluator, embeddings: Embeddings | None = None) -> None:
        raise CrowError(Kind.INTERNAL, "model_failed", "llama_decode returned -3")

    shop.begin(0, next(scenes(seed=7)))
    monkeypatch.setattr(Evaluator, "_decode", fails)
    with pytest.raises(CrowError) as caught:
        shop.step()
    assert caught.value.code == "model_failed"


def test_an_answer_that_does_not_end_fails_its_frame_alone(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=2)
    endless = Automaton(Repeat(Literal("ab"), 90, 90)).start
    question = scripted_gemma.question("What?")

    def new_answer() -> Answer:
        return Answer(scripted_gemma, question, endless, None, most_tokens=10, forced_text=False)

    shop.batch.begin(7, PICTURE, new_answer, Usage())
    shop.under_way[7] = ("till", "")
    shop.begin(8, next(scenes(seed=8)))
    failed = shop.finish()
    assert {key: error.code for key, error in failed.items()} == {7: "answer_truncated"}


def test_a_grammar_that_no_token_can_follow_fails_its_frame_alone(scripted_gemma: GemmaModel) -> None:
    shop = Party(scripted_gemma, slots=2)
    unwritable = Automaton(Literal("\x00")).start
    question = scripted_gemma.question("What?")
    scripted_gemma._pieces[next(t for t in range(99) if scripted_gemma.piece(t) == b"\x00")] = b""
    try:
        shop.batch.begin(
            7,
            PICTURE,
            lambda: Answer(scripted_gemma, question, unwritable, None, most_tokens=9, forced_text=False),
            Usage(),
        )
        shop.under_way[7] = ("till", "")
        shop.begin(8, next(scenes(seed=9)))
        failed = shop.finish()
    finally:
        scripted_gemma._pieces.clear()
    assert {key: error.code for key, error in failed.items()} == {7: "grammar_dead_end"}
