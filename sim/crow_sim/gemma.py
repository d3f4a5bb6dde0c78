"""A small Gemma-3 made from nothing: random weights, but the true structure.

llama.cpp takes it the whole way that the real weights go (JPEG, SigLIP tower, projection, gemma3 graph with sliding
windows, sentencepiece vocabulary, grammar), in milliseconds. What it says of a picture means nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray

from crow_shared.errors import CrowError, Kind

_RMS_EPSILON = 1e-6
_ROPE_BASE = 1_000_000.0
_POOLED = 4  # Gemma 3 pools 4 by 4 patches into a token
_BOS, _EOS, _UNKNOWN, _PAD = 2, 1, 3, 0
_CONTROL = ("<pad>", "<eos>", "<bos>")
_TURNS = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")
_WORDS = (
    *("person", "people", "customer", "staff", "shelf", "product", "aisle", "queue", "till", "shop", "camera"),
    *("walking", "standing", "moving", "still", "left", "right", "towards", "away", "unknown"),
    *("browse", "touch", "pickup", "putback", "carry", "return", "zone", "role", "action", "activity"),
)
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\\n' }}"
    "{% for item in message['content'] %}{{ '<start_of_image>' if item['type'] == 'image' else item['text'] | trim }}"
    "{% endfor %}{{ '<end_of_turn>\\n' }}{% endfor %}{{ '<start_of_turn>model\\n' }}"
)


@dataclass(frozen=True, slots=True)
class TextShape:
    """The size of the language model."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_value_heads: int
    head_width: int
    sliding_window: int
    context: int


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The size of the vision tower; `image_pixels` is a side of its square picture."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    image_pixels: int
    patch_pixels: int

    @property
    def image_tokens(self) -> int:
        """How many tokens a picture becomes."""
        return (self.image_pixels // self.patch_pixels // _POOLED) ** 2


SMALL_TEXT = TextShape(
    layers=2,
    width=64,
    feed_forward=128,
    heads=4,
    key_value_heads=2,
    head_width=32,
    sliding_window=512,
    context=8192,
)
SMALL_VISION = VisionShape(layers=2, width=64, feed_forward=128, heads=4, image_pixels=224, patch_pixels=14)


def write_small_gemma3(
    directory: Path, text: TextShape = SMALL_TEXT, vision: VisionShape = SMALL_VISION
) -> tuple[Path, Path]:
    """Writes a text model and its mmproj into `directory`, the same bytes each time.

    Returns their paths. Raises CrowError(UNAVAILABLE) when they cannot be written.
    """
    text_path, mmproj_path = directory / "gemma3-small.gguf", directory / "gemma3-small-mmproj.gguf"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_text_model(text_path, text)
        _write_mmproj(mmproj_path, vision, text.width)
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "store_unavailable", f"{directory}: {error.strerror}") from None
    return text_path, mmproj_path


class _Tensors:
    """Random tensors, from a generator of their own so that the files come out the same each time."""

    def __init__(self, writer: GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def half_precision(self, name: str, rows: int, columns: int) -> None:
        """A matrix as mmproj files have them, scaled to keep the activations' size."""
        self._writer.add_tensor(name, self._matrix(rows, columns).astype(np.float16))

    def quantized(self, name: str, rows: int, columns: int) -> None:
        """A matrix in 8-bit blocks: quantized weights run through kernels of their own, as the real ones do."""
        kind = GGMLQuantizationType.Q8_0
        self._writer.add_tensor(name, quantize(self._matrix(rows, columns), kind), raw_dtype=kind)

    def _matrix(self, rows: int, columns: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._random.standard_normal((rows, columns), np.float32)
        return values / np.float32(np.sqrt(columns))

    def noise(self, name: str, *shape: int) -> None:
        self._writer.add_tensor(name, (self._random.standard_normal(shape) * 0.02).astype(np.float32))

    def ones(self, name: str, size: int) -> None:
        self._writer.add_tensor(name, np.ones(size, np.float32))


def _write_text_model(path: Path, shape: TextShape) -> None:
    writer = GGUFWriter(str(path), "gemma3")
    writer.add_type("model")
    writer.add_name("small random Gemma-3")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(_RMS_EPSILON)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_sliding_window(shape.sliding_window)
    words = _add_vocabulary(writer)
    tensors = _Tensors(writer, seed=1)
    tensors.quantized("token_embd.weight", words, shape.width)
    # The real weights use the embeddings here again. Random ones would then only ever repeat the last token.
    tensors.quantized("output.weight", words, shape.width)
    tensors.ones("output_norm.weight", shape.width)
    queries, keys = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            tensors.ones(f"{block}.{name}.weight", shape.width)
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors.ones(f"{block}.{name}.weight", shape.head_width)
        tensors.quantized(f"{block}.attn_q.weight", queries, shape.width)
        tensors.quantized(f"{block}.attn_k.weight", keys, shape.width)
        tensors.quantized(f"{block}.attn_v.weight", keys, shape.width)
        tensors.quantized(f"{block}.attn_output.weight", shape.width, queries)
        tensors.quantized(f"{block}.ffn_gate.weight", shape.feed_forward, shape.width)
        tensors.quantized(f"{block}.ffn_up.weight", shape.feed_forward, shape.width)
        tensors.quantized(f"{block}.ffn_down.weight", shape.width, shape.feed_forward)
    _write(writer)


def _add_vocabulary(writer: GGUFWriter) -> int:
    """A sentencepiece vocabulary: control tokens, all bytes, words with the beginnings that merging passes through."""
    tokens: dict[str, TokenType] = dict.fromkeys(_CONTROL, TokenType.CONTROL)
    tokens["<unk>"] = TokenType.UNKNOWN
    tokens |= dict.fromkeys(_TURNS, TokenType.CONTROL)
    tokens |= {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    special = len(tokens)
    starts = [word[:length] for bare in _WORDS for word in (bare, f"▁{bare}") for length in range(2, len(word) + 1)]
    characters = ["▁", *map(chr, range(0x21, 0x7F)), "\n", "\t"]
    for piece in (*starts, '":"', '","', '{"', '"}', *characters):
        tokens.setdefault(piece, TokenType.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(tokens))
    writer.add_token_scores([float(min(0, special - index)) for index in range(len(tokens))])
    writer.add_token_types(list(tokens.values()))
    writer.add_bos_token_id(_BOS)
    writer.add_eos_token_id(_EOS)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_pad_token_id(_PAD)
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=False)
    writer.add_add_space_prefix(value=False)
    writer.add_chat_template(_CHAT_TEMPLATE)
    return len(tokens)


def _write_mmproj(path: Path, shape: VisionShape, text_width: int) -> None:
    writer = GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_name("small random SigLIP with Gemma-3's projection")
    writer.add_bool("clip.has_vision_encoder", val=True)
    writer.add_string("clip.projector_type", "gemma3")
    writer.add_bool("clip.use_gelu", val=True)
    writer.add_uint32("clip.vision.image_size", shape.image_pixels)
    writer.add_uint32("clip.vision.patch_size", shape.patch_pixels)
    writer.add_uint32("clip.vision.embedding_length", shape.width)
    writer.add_uint32("clip.vision.feed_forward_length", shape.feed_forward)
    writer.add_uint32("clip.vision.block_count", shape.layers)
    writer.add_uint32("clip.vision.attention.head_count", shape.heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", _RMS_EPSILON)
    writer.add_uint32("clip.vision.projection_dim", text_width)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    tensors = _Tensors(writer, seed=2)
    tensors.noise("v.patch_embd.weight", shape.width, 3, shape.patch_pixels, shape.patch_pixels)
    tensors.noise("v.patch_embd.bias", shape.width)
    tensors.noise("v.position_embd.weight", (shape.image_pixels // shape.patch_pixels) ** 2, shape.width)
    for layer in range(shape.layers):
        block = f"v.blk.{layer}"
        for name, rows, columns in (
            *((name, shape.width, shape.width) for name in ("attn_q", "attn_k", "attn_v", "attn_out")),
            ("ffn_up", shape.feed_forward, shape.width),
            ("ffn_down", shape.width, shape.feed_forward),
        ):
            tensors.half_precision(f"{block}.{name}.weight", rows, columns)
            tensors.noise(f"{block}.{name}.bias", rows)
        for name in ("ln1", "ln2"):
            tensors.ones(f"{block}.{name}.weight", shape.width)
            tensors.noise(f"{block}.{name}.bias", shape.width)
    tensors.ones("v.post_ln.weight", shape.width)
    tensors.noise("v.post_ln.bias", shape.width)
    tensors.half_precision("mm.input_projection.weight", shape.width, text_width)
    tensors.ones("mm.soft_emb_norm.weight", shape.width)
    _write(writer)


def _write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
