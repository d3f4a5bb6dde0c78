"""The words around the picture, from a versioned file: one of ours, or one of the operator's."""

import json
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from crow_receiver.vision.port import VisionRequest
from crow_shared.errors import CrowError, Kind

SHOP_PROMPT = "shop-3"
_MOST_CHARS = 400  # of a text that is quoted: more than any that is accepted
_MOST_PROMPT_CHARS = 20_000  # far beyond what the context takes, and small beside what a worker is told
# What the lines of a question may ask for.
_PLACES = {
    "question": frozenset({"camera", "zones"}),
    "context": frozenset({"context"}),
    "products": frozenset({"products"}),
    "language": frozenset({"language"}),
    "previous": frozenset({"previous", "seconds"}),
}

_Line = Annotated[str, Field(max_length=_MOST_PROMPT_CHARS)]


class Prompt(BaseModel):
    """`instructions` are the same for every frame, `question` belongs to one.

    The others are lines before the question: of what the operator told of the camera, and of its frame before, each
    where there is something to tell. An empty one leaves it out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,49}$")]
    instructions: Annotated[str, Field(min_length=1, max_length=_MOST_PROMPT_CHARS)]
    question: Annotated[str, Field(min_length=1, max_length=_MOST_PROMPT_CHARS)]
    context: _Line = ""
    products: _Line = ""
    language: _Line = ""
    previous: _Line = ""

    @field_validator(*_PLACES)
    @classmethod
    def _asks_for_what_there_is(cls, line: str, info: ValidationInfo) -> str:
        known = _PLACES[str(info.field_name)]
        for _, place, form, conversion in Formatter().parse(line):
            if place is not None and (place not in known or form or conversion):
                there_is = " and ".join(f"{{{name}}}" for name in sorted(known))
                raise ValueError(f"{{{place}}} is unknown: there is {there_is}; write {{{{ for a brace")
        return line

    def question_for(self, request: VisionRequest) -> str:
        """The question about one frame; texts appear as quoted strings, without control characters."""
        from crow_receiver.vision.zones import areas, in_words  # noqa: PLC0415 — loads OpenCV, which workers have

        zones = "; ".join(f"{_quoted(area.name)} ({in_words(area)})" for area in areas(request.zones))
        question = self.question.strip().format(camera=_quoted(request.camera_name), zones=zones)
        return "\n".join([*self._lines(request), question])

    def _lines(self, request: VisionRequest) -> Iterator[str]:
        brief, previous = request.brief, request.previous
        if brief.context and self.context:
            yield self.context.format(context=_quoted(brief.context))
        if brief.products and self.products:
            yield self.products.format(products=", ".join(map(_quoted, brief.products)))
        if brief.language and self.language:
            yield self.language.format(language=_quoted(brief.language))
        if previous is not None and self.previous:
            seconds = f"{previous.seconds_before:.0f}"
            yield self.previous.format(previous=_quoted(previous.description), seconds=seconds)


def load_prompt(name: str = SHOP_PROMPT) -> Prompt:
    """The prompt of one of our versions, or of a TOML file of the operator's, whose name has a `/` or ends in `.toml`.

    Such a file's version gets the first digits of its sha256, so that two that say the same version are told apart.
    Raises CrowError: NOT_FOUND when it cannot be read, INVALID when it is no prompt.
    """
    ours = "/" not in name and not name.endswith(".toml")
    try:
        place = files("crow_receiver.vision.prompts").joinpath(f"{name}.toml") if ours else Path(name)
        content = place.read_bytes()
    except OSError as error:
        why = "there is no such version of ours" if ours else error.strerror or str(error)
        raise CrowError(Kind.NOT_FOUND, "prompt_missing", f"cannot read the prompt {name}: {why}") from None
    try:
        prompt = Prompt.model_validate(tomllib.loads(content.decode()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _invalid(name, f"{where}: {first['msg']}") from None
    except ValueError as error:  # no UTF-8, no TOML
        raise _invalid(name, str(error)) from None
    if ours:
        return prompt
    return prompt.model_copy(update={"version": f"{prompt.version}+{sha256(content).hexdigest()[:8]}"})


def _invalid(name: str, why: str) -> CrowError:
    return CrowError(Kind.INVALID, "prompt_invalid", f"{name} is no prompt: {why}")


def _quoted(name: str) -> str:
    printable = "".join(character for character in name if character.isprintable())
    return json.dumps(printable[:_MOST_CHARS], ensure_ascii=False)
