"""The words around the picture, from a versioned file."""

import json
import tomllib
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.zones import areas, in_words

SHOP_PROMPT = "shop-2"
_MOST_NAME_CHARS = 80


class Prompt(BaseModel):
    """`instructions` are the same for every frame, `question` belongs to one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    instructions: str
    question: str

    def question_for(self, request: VisionRequest) -> str:
        """The question about one frame; names appear as quoted strings, without control characters."""
        zones = "; ".join(f"{_quoted(area.name)} ({in_words(area)})" for area in areas(request.zones))
        return self.question.strip().format(camera=_quoted(request.camera_name), zones=zones)


def load_prompt(version: str = SHOP_PROMPT) -> Prompt:
    """The prompt of that version."""
    text = files("crow_receiver.vision.prompts").joinpath(f"{version}.toml").read_text(encoding="utf-8")
    return Prompt.model_validate(tomllib.loads(text))


def _quoted(name: str) -> str:
    printable = "".join(character for character in name if character.isprintable())
    return json.dumps(printable[:_MOST_NAME_CHARS], ensure_ascii=False)
