"""How the engine is to run: what the settings say, and the same with nothing left to choose."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

KeyValueType = Literal["f16", "q8_0"]
FlashAttention = Literal["auto", "on", "off"]

MOST_SLOTS = 128  # llama.cpp knows 256 sequences


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LlamaSettings(_Strict):
    """What the operator says; 0 leaves a number to `plan`, and so does a negative one for `gpu_layers`.

    `workers` share the machine alike.
    """

    workers: Annotated[int, Field(ge=1)] = 1
    slots: Annotated[int, Field(ge=0, le=MOST_SLOTS)] = 0
    context_tokens: Annotated[int, Field(ge=0)] = 0
    batch_tokens: Annotated[int, Field(ge=0)] = 0
    kv_type: KeyValueType = "f16"
    flash_attention: FlashAttention = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    gpu_layers: Annotated[int, Field(ge=-1)] = -1


class LlamaOptions(_Strict):
    """What the engine is loaded with.

    `context_tokens` are for one frame, instructions included; `batch_tokens` are evaluated at once, at most. `guesses`
    change how fast an answer comes and not the answer; `forced_text` may change it where a text that the grammar
    forces can be cut into tokens in several ways.
    """

    slots: int
    context_tokens: int
    batch_tokens: int
    kv_type: KeyValueType
    flash_attention: FlashAttention
    threads: int
    gpu_layers: int
    guesses: bool = True
    forced_text: bool = True
