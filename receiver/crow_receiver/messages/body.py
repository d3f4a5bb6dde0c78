"""What both message bodies have in common: names in camelCase, no field beyond the schema, one way to become bytes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from crow_receiver.vision.schema import Provenance, ShortText

Count = Annotated[int, Field(ge=0)]
MAX_ENGINES = 8  # engines told of in one window; more would take that many changes of the model within a session
MAX_INSTEAD_OF = 4
TimestampMs = Annotated[int, Field(ge=0)]  # since the Unix epoch


class Body(BaseModel):
    """A part of a message body."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self) -> bytes:
        """The body as it travels: compact UTF-8 JSON."""
        return self.model_dump_json(by_alias=True).encode()


class EngineNote(Body):
    """Which engine spoke, in whose place if others were down, and what it cannot tell."""

    name: ShortText
    model: Annotated[str, Field(max_length=255)] | None
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    quantization: ShortText | None
    prompt_version: ShortText | None
    instead_of: Annotated[list[ShortText], Field(max_length=MAX_INSTEAD_OF)]
    limits: Annotated[list[Annotated[str, Field(max_length=400)]], Field(max_length=16)]

    @classmethod
    def of(cls, provenance: Provenance) -> "EngineNote":
        """The note for an analysis."""
        return cls(
            name=provenance.engine,
            model=provenance.model,
            model_sha256=provenance.model_sha256,
            quantization=provenance.quantization,
            prompt_version=provenance.prompt_version,
            instead_of=[passed_over.engine for passed_over in provenance.passed_over][:MAX_INSTEAD_OF],
            limits=provenance.limits,
        )
