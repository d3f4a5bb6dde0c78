"""What describing a frame took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a frame took; 0 where the engine does not tell.

    Tokens of the prompt (instructions and question), of the picture and of the answer; of the answer's those that were
    guessed beforehand, and how many of these were right. Times are the frame's share of what it did together with
    others.
    """

    prompt_tokens: int = 0
    image_tokens: int = 0
    answer_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    encode_ms: float = 0
    prefill_ms: float = 0
    decode_ms: float = 0
