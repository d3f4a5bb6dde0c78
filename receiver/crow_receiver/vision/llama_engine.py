"""The engine with weights: Gemma-3 through llama.cpp, its answers held to the schema by a grammar."""

from pathlib import Path

from pydantic import ValidationError

from crow_receiver.models.store import check_file
from crow_receiver.vision.decode import decode
from crow_receiver.vision.grammar import answer_grammar
from crow_receiver.vision.llama_runtime import GemmaRuntime
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.prompt import load_prompt
from crow_receiver.vision.schema import Scene
from crow_receiver.vision.worker_protocol import WorkerConfig
from crow_receiver.vision.zones import areas
from crow_shared.errors import CrowError, Kind


class LlamaEngine:
    """Describes frames with a Gemma-3 model."""

    name = "llama"
    limits: tuple[str, ...] = (
        "sees one frame at a time: what happened between two frames is not known to it",
        "zones are told from where feet are in the picture, and movement from posture alone",
        "cannot tell who crosses a line",
        "confidence is the model's own word, not a measured probability",
    )

    def __init__(self, config: WorkerConfig) -> None:
        """Checks and loads the model.

        Raises CrowError: CORRUPT when a file is not what was installed, INVALID when it is no Gemma-3, UNAVAILABLE
        without the memory for it.
        """
        model_path, mmproj_path = Path(config.model_path), Path(config.mmproj_path)
        check_file(model_path, config.model_sha256)
        check_file(mmproj_path, config.mmproj_sha256)
        self._prompt = load_prompt()
        self.model: str | None = config.model
        self.model_sha256: str | None = config.model_sha256
        self.prompt_version: str | None = self._prompt.version
        self._runtime = GemmaRuntime(
            model_path, mmproj_path, self._prompt.instructions, config.threads, config.gpu_layers
        )

    def describe(self, request: VisionRequest) -> Scene:
        """What the model says of the frame.

        Raises CrowError: what `decode` raises, INVALID and INTERNAL as `GemmaRuntime.answer` does.
        """
        side = self._runtime.image_side
        picture = decode(request.encoding, request.coded, least=(side, side))
        grammar = answer_grammar(tuple(area.name for area in areas(request.zones)))
        question = self._prompt.question_for(request)
        answer = self._runtime.answer(picture, question, grammar.gbnf, grammar.longest_bytes)
        try:
            return Scene.model_validate_json(answer)
        except ValidationError as error:
            raise CrowError(
                Kind.INTERNAL, "answer_invalid", f"the model's answer is not of the schema: {error}"
            ) from None
