"""The language model's file."""

from pathlib import Path

from gguf import GGMLQuantizationType, GGUFWriter, TokenType

from crow_sim.gemma.script import Script, ScriptedWeights
from crow_sim.gemma.shapes import TextShape
from crow_sim.gemma.tensors import Tensors
from crow_sim.gemma.writing import RMS_EPSILON, write

_ROPE_BASE = 1_000_000.0
_BOS, _EOS, _UNKNOWN, _PAD = 2, 1, 3, 0
_CONTROL = ("<pad>", "<eos>", "<bos>")
_TURNS = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")
_WORDS = (
    *("person", "people", "customer", "staff", "shelf", "product", "aisle", "queue", "till", "shop", "camera"),
    *("walking", "standing", "moving", "still", "left", "right", "towards", "away", "unknown"),
    *("browse", "touch", "pickup", "putback", "carry", "return", "zone", "role", "action", "activity"),
)
_FILLING_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for item in message['content'] %}{{ '<start_of_image>' if item['type'] == 'image' else item['text'] }}"
    "{% endfor %}{% endif %}{{ '<end_of_turn>\\n' }}{% endfor %}{{ '<start_of_turn>model\\n' }}"
)


def write_text_model(path: Path, shape: TextShape, kind: GGMLQuantizationType, script: Script | None) -> None:
    """A model with random weights of that kind, or one that follows a script."""
    writer = GGUFWriter(str(path), "gemma3")
    writer.add_type("model")
    writer.add_name("random Gemma-3")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(RMS_EPSILON)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_sliding_window(shape.sliding_window)
    tokens = _add_vocabulary(writer, script.pieces() if script else [], shape.vocabulary)
    tensors = Tensors(writer, seed=1)
    scripted = ScriptedWeights(script, shape, tokens, tensors) if script else None
    if scripted:
        scripted.write_vocabulary()
    else:
        tensors.matrix("token_embd.weight", len(tokens), shape.width, kind)
        # The real weights use the embeddings here again. Random ones would then only ever repeat the last token.
        tensors.matrix("output.weight", len(tokens), shape.width, kind)
    tensors.constant("output_norm.weight", shape.width)
    for layer in range(shape.layers):
        _write_layer(tensors, shape, layer, kind, scripted)
    write(writer)


def _write_layer(
    tensors: Tensors, shape: TextShape, layer: int, kind: GGMLQuantizationType, scripted: ScriptedWeights | None
) -> None:
    block = f"blk.{layer}"
    speaks = scripted is not None and layer == scripted.layer
    for name in ("attn_norm", "ffn_norm"):
        tensors.constant(f"{block}.{name}.weight", shape.width)
    # What a layer adds passes through these two: in a scripted model, layers compute as always and add nothing.
    tensors.constant(f"{block}.post_attention_norm.weight", shape.width, 1 if speaks or not scripted else 0)
    tensors.constant(f"{block}.post_ffw_norm.weight", shape.width, 0 if scripted else 1)
    for name in ("attn_q_norm", "attn_k_norm"):
        tensors.constant(f"{block}.{name}.weight", shape.head_width)
    queries, keys = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
    for name, rows, columns in (
        ("attn_q", queries, shape.width),
        ("attn_k", keys, shape.width),
        ("attn_v", keys, shape.width),
        ("attn_output", shape.width, queries),
        ("ffn_gate", shape.feed_forward, shape.width),
        ("ffn_up", shape.feed_forward, shape.width),
        ("ffn_down", shape.width, shape.feed_forward),
    ):
        if scripted and speaks and name.startswith("attn"):
            tensors.given(f"{block}.{name}.weight", scripted.attention(name, rows, columns), kind)
        else:
            tensors.matrix(f"{block}.{name}.weight", rows, columns, kind)


def _add_vocabulary(writer: GGUFWriter, pieces: list[str], size: int) -> dict[str, int]:
    """A sentencepiece vocabulary: control tokens, all bytes, words with the beginnings that merging passes through."""
    tokens: dict[str, TokenType] = dict.fromkeys(_CONTROL, TokenType.CONTROL)
    tokens["<unk>"] = TokenType.UNKNOWN
    tokens |= dict.fromkeys(_TURNS, TokenType.CONTROL)
    tokens |= {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    special = len(tokens)
    starts = [word[:length] for bare in _WORDS for word in (bare, f"▁{bare}") for length in range(2, len(word) + 1)]
    characters = ["▁", *map(chr, range(0x21, 0x7F)), "\n", "\t"]
    for piece in (*pieces, *starts, '":"', '","', '{"', '"}', *characters):
        tokens.setdefault(piece, TokenType.NORMAL)
    for piece in _filling(size):
        if len(tokens) >= size:
            break
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
    return {token: index for index, token in enumerate(tokens)}


def _filling(size: int) -> list[str]:
    """Five letters each, which no merging passes through: a vocabulary of the true size costs what it costs."""
    letters = _FILLING_LETTERS
    words = []
    for number in range(size):
        word, rest = "", number
        for _ in range(5):
            rest, letter = divmod(rest, len(letters))
            word += letters[letter]
        words.append(word + "xq")
    return words
