"""Gemma-3 models made from nothing: random weights, but the true structure.

llama.cpp takes them the whole way that the real weights go (JPEG, SigLIP tower, projection, gemma3 graph with sliding
windows, sentencepiece vocabulary, grammar), the small ones in milliseconds. What they say of a picture means nothing.
"""

from pathlib import Path

from gguf import GGMLQuantizationType

from crow_shared.errors import CrowError, Kind
from crow_sim.gemma.script import Script, value_places
from crow_sim.gemma.shapes import SMALL_TEXT, SMALL_VISION, TextShape, VisionShape
from crow_sim.gemma.text import write_text_model
from crow_sim.gemma.tower import write_mmproj


def write_gemma3(
    directory: Path,
    text: TextShape = SMALL_TEXT,
    vision: VisionShape = SMALL_VISION,
    *,
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
    script: Script | None = None,
) -> tuple[Path, Path]:
    """Writes a text model and its mmproj into `directory`, the same bytes each time.

    `kind` is that of the text model's weights; a model with a `script` says what that says. Returns their paths. Raises
    CrowError(UNAVAILABLE) when they cannot be written.
    """
    text_path, mmproj_path = directory / "gemma3.gguf", directory / "gemma3-mmproj.gguf"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_text_model(text_path, text, kind, script)
        write_mmproj(mmproj_path, vision, text.width, value_places(script) if script else 0)
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "store_unavailable", f"{directory}: {error.strerror}") from None
    return text_path, mmproj_path
