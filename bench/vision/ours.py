"""Our engine as a party: its batch, without the worker process around it."""

import sys
from dataclasses import fields
from pathlib import Path

from party import serve
from workload import GRAMMAR, INSTRUCTIONS, MOST_TOKENS, Frame, jpeg

from crow_receiver.vision.decode import decode
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
from crow_shared.frame import Encoding


class Engine:
    """Frames in, texts out."""

    def __init__(self, model: Path, mmproj: Path, options: LlamaOptions) -> None:
        self._options = options
        self._model = GemmaModel(model, mmproj, options)
        evaluator = Evaluator(self._model, self._model.beginning(INSTRUCTIONS), options, most_logits(options.slots))
        pictures = evaluator.batch_tokens // self._model.image_tokens
        self._batch = Batch(evaluator, self._model.encode, options.slots, pictures)
        self._earlier = EarlierAnswers()

    def run(self, frames: list[Frame]) -> tuple[list[str], dict[str, object]]:
        """Answers a round, as many frames at once as there are slots."""
        waiting = dict(enumerate(frames))
        under_way: dict[int, Frame] = {}
        texts: dict[int, str] = {}
        usages: list[Usage] = []
        while waiting or under_way:
            while waiting and len(under_way) < self._options.slots:
                key = next(iter(waiting))
                under_way[key] = waiting.pop(key)
                self._begin(key, under_way[key])
            for ended in self._batch.step():
                frame = under_way.pop(ended.key)
                if isinstance(ended.answer, CrowError):
                    raise ended.answer
                texts[ended.key] = ended.answer.text.decode()
                usages.append(ended.usage)
                self._earlier.keep(str(frame.camera), ended.answer.done())
        total = {field.name: sum(getattr(usage, field.name) for usage in usages) for field in fields(Usage)}
        split_s = {name: total[f"{name}_ms"] / 1000 for name in ("encode", "prefill", "decode")}
        more = {"split_s": split_s, "guessed": total["drafted"], "right": total["accepted"]}
        return [texts[key] for key in range(len(frames))], more

    def _begin(self, key: int, frame: Frame) -> None:
        question = self._model.question(frame.question)
        side = self._model.image_side
        picture = decode(Encoding.JPEG, jpeg(frame), least=(side, side))

        def new_answer() -> Answer:
            return Answer(
                self._model,
                question,
                automaton_of(GRAMMAR).start,
                self._earlier.of(str(frame.camera)) if self._options.guesses else None,
                most_tokens=MOST_TOKENS,
                forced_text=self._options.forced_text,
            )

        self._batch.begin(key, picture, new_answer, Usage())


def main() -> None:
    """Arguments: both files, and the options as JSON."""
    model, mmproj, options = sys.argv[1:]
    engine = Engine(Path(model), Path(mmproj), LlamaOptions.model_validate_json(options))
    serve(engine.run, lambda: 0)


if __name__ == "__main__":
    main()
