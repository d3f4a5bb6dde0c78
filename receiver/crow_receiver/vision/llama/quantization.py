"""How a model's weights are stored, by the name that people know.

Numbers: `llama_ftype` in llama.cpp's include/llama.h, told by a GGUF's key `general.file_type`.
"""

from crow_receiver.vision.llama.gguf_header import GgufHeader

_NAMES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}


def quantization_of(header: GgufHeader) -> str | None:
    """The name, `file type N` for a rare one, or None where the file does not tell."""
    kind = header.values.get("general.file_type")
    return _NAMES.get(kind, f"file type {kind}") if isinstance(kind, int) else None
