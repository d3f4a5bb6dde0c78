"""A small Gemma-3 that follows a script, and engines' insides around it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crow_receiver.vision.grammar import Character, Choice, Literal, Node, Repeat
from crow_receiver.vision.grammar import Sequence as Parts
from crow_receiver.vision.llama.answer import Answer
from crow_receiver.vision.llama.automaton import automaton_of
from crow_receiver.vision.llama.batch import Batch
from crow_receiver.vision.llama.draft import EarlierAnswers
from crow_receiver.vision.llama.evaluator import Evaluator
from crow_receiver.vision.llama.model import GemmaModel
from crow_receiver.vision.llama.options import LlamaOptions
from crow_receiver.vision.llama.plan import most_logits
from crow_receiver.vision.port import Usage
from crow_shared.errors import CrowError
from crow_sim.gemma import write_gemma3
from crow_sim.gemma.script import OPTIONS, Script, make_script
from crow_sim.gemma.shapes import SMALL_TEXT

SHAPE = replace(SMALL_TEXT, width=256)
SCRIPT = make_script(fields=4, words=6)
INSTRUCTIONS = "Look at this and say what you see."
PICTURE = np.full((60, 80, 3), 128, np.uint8)
MOST_ANSWER_BYTES = 400


def options(**changes: object) -> LlamaOptions:
    given = {"slots": 1, "context_tokens": 1024, "batch_tokens": 512, "kv_type": "f16", "flash_attention": "auto"}
    return LlamaOptions.model_validate({**given, "threads": 1, "gpu_layers": 0, **changes})


def write_scripted(directory: Path) -> tuple[Path, Path]:
    return write_gemma3(directory, SHAPE, script=SCRIPT)


def script_grammar(script: Script) -> Node:
    """Objects of the script's fields with any of their values, and free text."""
    parts: list[Node] = []
    for field in script.fields:
        key = "".join(field.key)
        parts += [Literal(("," if parts else "{") + f'"{key}":"'), Choice(tuple(map(Literal, field.values)))]
        parts.append(Literal('"'))
    text = Repeat(Character((" !", "#[", "]~")), 1, MOST_ANSWER_BYTES)
    return Parts((*parts, Literal(f',"{"".join(script.description)}":"'), text, Literal('"}')))


class Party:
    """Frames whose scenes are known, around one engine's inside."""

    def __init__(self, model: GemmaModel, **changes: object) -> None:
        self.options = options(**changes)
        self.model = model
        self._start = automaton_of(script_grammar(SCRIPT)).start
        self._earlier = EarlierAnswers()
        self.evaluator = Evaluator(model, model.beginning(INSTRUCTIONS), self.options, most_logits(self.options.slots))
        pictures = self.evaluator.batch_tokens // model.image_tokens
        self.batch = Batch(self.evaluator, model.encode, self.options.slots, pictures)
        self.under_way: dict[int, tuple[str, str]] = {}  # camera and what its model has to say
        self.usages: list[Usage] = []

    def begin(self, key: int, scene: Sequence[int], camera: str = "till", before: str = "") -> None:
        question = self.model.question(f"{before}Say: {SCRIPT.question(scene)}")

        def new_answer() -> Answer:
            return Answer(
                self.model,
                question,
                self._start,
                self._earlier.of(camera) if self.options.guesses else None,
                most_tokens=MOST_ANSWER_BYTES,
                forced_text=self.options.forced_text,
            )

        self.batch.begin(key, PICTURE, new_answer, Usage())
        self.under_way[key] = (camera, SCRIPT.answer(scene))

    def abort(self, key: int) -> None:
        self.batch.abort(key)
        del self.under_way[key]

    def step(self) -> dict[int, CrowError]:
        """One step, after which each answer that is there has to be the right one; the frames that failed."""
        failed = {}
        for ended in self.batch.step():
            camera, expected = self.under_way.pop(ended.key)
            self.usages.append(ended.usage)
            if isinstance(ended.answer, CrowError):
                failed[ended.key] = ended.answer
            else:
                assert ended.answer.text.decode() == expected
                self._earlier.keep(camera, ended.answer.done())
        return failed

    def finish(self) -> dict[int, CrowError]:
        """Steps until nothing is under way; the frames that failed."""
        failed: dict[int, CrowError] = {}
        while self.under_way:
            failed |= self.step()
        return failed


def scenes(seed: int) -> Iterator[tuple[int, ...]]:
    """Scenes without end."""
    drawn = random.Random(seed)
    while True:
        yield tuple(drawn.randrange(OPTIONS) for _ in range(SCRIPT.choices))
