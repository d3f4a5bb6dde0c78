"""The engine with weights: Gemma-3 through llama.cpp, several frames at once, their answers held to the schema."""

from dataclasses import replace
from pathlib import Path

from crow_receiver.models.store import check_file
from crow_receiver.vision.answers import scene_of
from crow_receiver.vision.grammar import answer_grammar
from crow_receiver.vision.llama.answer import Answer
from crow_receiver.vision.llama.automaton import automaton_of
from crow_receiver.vision.llama.batch import Batch, Ended
from crow_receiver.vision.llama.draft import EarlierAnswers
from crow_receiver.vision.llama.evaluator import Evaluator
from crow_receiver.vision.llama.gguf_header import read_header
from crow_receiver.vision.llama.machine import this_machine
from crow_receiver.vision.llama.model import GemmaModel
from crow_receiver.vision.llama.options import LlamaOptions
from crow_receiver.vision.llama.plan import most_logits, plan_for
from crow_receiver.vision.llama.quantization import quantization_of
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import Finished, VisionRequest
from crow_receiver.vision.prompt import Prompt
from crow_receiver.vision.usage import Usage
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_receiver.vision.zones import areas
from crow_shared.errors import CrowError, Kind

_LEAST_ANSWER_TOKENS = 512  # of an answer about eight people; nearly all have under 200


class LlamaEngine:
    """Describes frames with a Gemma-3 model."""

    name = "llama"
    limits: tuple[str, ...] = (
        "sees one frame at a time: what happened between two frames is not known to it",
        "zones are told from where feet are in the picture, and movement from posture alone",
        "cannot tell who crosses a line",
        "confidence is the model's own word, not a measured probability",
    )
    trouble: str | None = None

    def __init__(self, model: GemmaModel, prompt: Prompt, options: LlamaOptions) -> None:
        """Raises CrowError: UNAVAILABLE without the memory for it, INVALID for instructions beyond the context."""
        self.model: str | None = None
        self.model_sha256: str | None = None
        self.quantization: str | None = None
        self.prompt_version: str | None = prompt.version
        self.slots = options.slots
        self.least_side = (model.image_side, model.image_side)
        self._gemma = model
        self._prompt = prompt
        self._options = options
        instructions = model.beginning(prompt.instructions)
        self._instruction_tokens = len(instructions)
        if len(instructions) >= options.context_tokens:
            raise CrowError(
                Kind.INVALID,
                "context_too_small",
                f"the instructions alone are {len(instructions)} tokens, and vision.context_tokens is "
                f"{options.context_tokens}",
            )
        evaluator = Evaluator(model, instructions, options, most_logits(options.slots))
        pictures = evaluator.batch_tokens // model.image_tokens
        self._batch = Batch(evaluator, model.encode, options.slots, pictures)
        self._earlier = EarlierAnswers()
        self._cameras: dict[int, str] = {}

    @classmethod
    def load(cls, config: WorkerConfig) -> "LlamaEngine":
        """Checks and loads the model, with automatic settings resolved for this machine.

        Raises CrowError: CORRUPT when a file is not what was installed, INVALID when it is no Gemma-3, UNAVAILABLE
        without the memory for it.
        """
        model_path, mmproj_path = Path(config.model_path), Path(config.mmproj_path)
        check_file(model_path, config.model_sha256)
        check_file(mmproj_path, config.mmproj_sha256)
        options = plan_for(config.llama, model_path, mmproj_path, this_machine()).options
        engine = cls(GemmaModel(model_path, mmproj_path, options), config.prompt, options)
        engine.model, engine.model_sha256 = config.model, config.model_sha256
        engine.quantization = quantization_of(read_header(model_path))
        return engine

    def begin(self, key: int, request: VisionRequest, picture: Pixels) -> None:
        """Takes a frame in.

        What was said of the frame before, and then the camera's context, are left out where they do not fit. Raises
        CrowError: INVALID when even so there is no room for an answer, EXHAUSTED without a free slot.
        """
        brief = request.brief
        names = tuple(area.name for area in areas(request.zones))
        grammar = answer_grammar(names, brief.products, foreign=bool(brief.language))
        question, room = self._question(request)
        prompt_tokens = self._instruction_tokens + len(question)

        # A token is at least one byte, so an answer has at most as many as it has bytes, and mostly a fourth of that.
        most_tokens = min(grammar.longest_bytes, room)

        def new_answer() -> Answer:
            return Answer(
                self._gemma,
                question,
                automaton_of(grammar.root).start,
                self._earlier.of(request.camera) if self._options.guesses else None,
                most_tokens=most_tokens,
                forced_text=self._options.forced_text,
            )

        usage = Usage(prompt_tokens=prompt_tokens, image_tokens=self._gemma.image_tokens)
        self._batch.begin(key, picture, new_answer, usage)
        self._cameras[key] = request.camera

    def _question(self, request: VisionRequest) -> tuple[list[int], int]:
        """The question's tokens, and for how many of the answer there is room."""
        short = replace(request, previous=None)
        room = 0
        for asked in (request, short, replace(short, brief=replace(request.brief, context=""))):
            question = self._gemma.question(self._prompt.question_for(asked))
            used = self._instruction_tokens + self._gemma.image_tokens + len(question)
            room = self._options.context_tokens - used
            if room >= _LEAST_ANSWER_TOKENS:
                return question, room
        raise CrowError(
            Kind.INVALID,
            "question_too_long",
            f"a frame with these zones leaves {max(0, room)} of {self._options.context_tokens} tokens of context for "
            f"the answer; {_LEAST_ANSWER_TOKENS} are the least",
        )

    def step(self, wait_s: float) -> list[Finished]:
        """Goes on with all frames by a decoding step, and encodes a picture at most; what ended.

        Raises CrowError(INTERNAL) when the model fails without any frame: then it is of no use any more.
        """
        return [self._finished(ended) for ended in self._batch.step()]

    def abort(self, key: int) -> None:
        """Forgets a frame; there will be no `Finished` for it."""
        self._batch.abort(key)
        self._cameras.pop(key, None)

    def _finished(self, ended: Ended) -> Finished:
        camera = self._cameras.pop(ended.key)
        if isinstance(ended.answer, CrowError):
            return Finished(ended.key, ended.answer, ended.usage)
        self._earlier.keep(camera, ended.answer.done())
        try:
            scene = scene_of(ended.answer.text)
        except CrowError as error:
            return Finished(ended.key, error, ended.usage)
        return Finished(ended.key, scene, ended.usage)
