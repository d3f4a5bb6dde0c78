"""How far answers depend on guesses and on what else is in the batch: by rounding alone, which decides only ties.

llama.cpp's kernels add up in another order when a batch has another shape or a sequence lies elsewhere in memory. With
random weights, whose logits are many and close, that shows; docs/VISION.md says how large it is in larger models.
"""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.llama

from scripted_gemma import options  # noqa: E402 — needs the library

from crow_receiver.vision.grammar import Character, Literal, Repeat, Sequence  # noqa: E402
from crow_receiver.vision.llama import answer  # noqa: E402
from crow_receiver.vision.llama.answer import Answer  # noqa: E402
from crow_receiver.vision.llama.automaton import Automaton, State  # noqa: E402
from crow_receiver.vision.llama.batch import Batch  # noqa: E402
from crow_receiver.vision.llama.draft import Earlier  # noqa: E402
from crow_receiver.vision.llama.evaluator import Evaluator  # noqa: E402
from crow_receiver.vision.llama.model import GemmaModel  # noqa: E402
from crow_receiver.vision.llama.plan import most_logits  # noqa: E402
from crow_receiver.vision.pixels import Pixels  # noqa: E402
from crow_receiver.vision.port import Usage  # noqa: E402
from crow_sim.gemma import write_gemma3  # noqa: E402

FRAMES = 6
TEXT = Repeat(Character((" !", "#[", "]~")), 40, 60)
START = Automaton(Sequence((Literal('{"role":"'), TEXT, Literal('","zone":"'), TEXT, Literal('"}')))).start
ROUNDING = {GGMLQuantizationType.F32: 0.05, GGMLQuantizationType.Q8_0: 0.25}  # logits have a deviation of about 1

Choice = tuple[int, NDArray[np.float32]]
"""A token, and the logits that it was chosen from."""


def pictures() -> list[Pixels]:
    random = np.random.default_rng(3)
    blocks = [random.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(FRAMES)]
    return [np.kron(picture, np.ones((20, 20, 1), np.uint8)) for picture in blocks]


class NotingVocabulary:
    """One for each answer, so that its choices can be told from those of the others."""

    def __init__(self, model: GemmaModel) -> None:
        self.piece, self.tokens = model.piece, model.tokens
        self.choices: list[Choice] = []


@pytest.fixture(autouse=True)
def _choices_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = answer.likeliest_allowed

    def noting(logits: NDArray[np.float32], state: State, vocabulary: NotingVocabulary) -> int:
        token = choose(logits, state, vocabulary)
        vocabulary.choices.append((token, logits.copy()))
        return token

    monkeypatch.setattr(answer, "likeliest_allowed", noting)


def told(
    model: GemmaModel, slots: int, earlier: list[Earlier | None], forced_text: bool
) -> list[tuple[Answer, list[Choice]]]:
    """What is said of each picture, with so many frames at once."""
    evaluator = Evaluator(model, model.beginning("Look at this."), options(slots=slots), most_logits(slots))
    batch = Batch(evaluator, model.encode, slots, slots)
    vocabularies = [NotingVocabulary(model) for _ in range(FRAMES)]
    question, answers, key = model.question("What?"), {}, 0

    def begin(key: int, picture: Pixels) -> None:
        def new_answer() -> Answer:
            limits = {"most_tokens": 200, "forced_text": forced_text}
            return Answer(vocabularies[key], question, START, earlier[key], **limits)

        batch.begin(key, picture, new_answer, Usage())

    while len(answers) < FRAMES:
        while key < FRAMES and key - len(answers) < slots:
            begin(key, pictures()[key])
            key += 1
        for ended in batch.step():
            assert isinstance(ended.answer, Answer)
            answers[ended.key] = ended.answer
    return [(answers[key], vocabularies[key].choices) for key in range(FRAMES)]


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("forced_text", [True, False])
def test_frames_that_go_together_choose_as_alone_but_for_ties(
    tmp_path: Path, kind: GGMLQuantizationType, forced_text: bool
) -> None:
    model = GemmaModel(*write_gemma3(tmp_path, kind=kind), options())
    alone = told(model, 1, [None] * FRAMES, forced_text)
    right = [Earlier(said.done().tokens, streak=16) for said, _ in alone]
    wrong = [*right[1:], right[0]]
    compared = 0
    for earlier in ([None] * FRAMES, right, wrong):
        for (_, expected), (_, found) in zip(alone, told(model, 4, earlier, forced_text), strict=True):
            for (token, logits), (other, other_logits) in zip(expected, found, strict=False):
                assert np.abs(logits - other_logits).max() < ROUNDING[kind]
                compared += 1
                if token != other:
                    assert logits[token] - logits[other] < ROUNDING[kind], "a tie"
                    break
    assert compared > 400
