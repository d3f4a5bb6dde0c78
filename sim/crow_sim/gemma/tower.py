"""The mmproj file: the vision tower and Gemma-3's projection."""

from pathlib import Path

from gguf import GGMLQuantizationType, GGUFWriter

from crow_sim.gemma.shapes import VisionShape
from crow_sim.gemma.tensors import Tensors
from crow_sim.gemma.writing import RMS_EPSILON, write

_KIND = GGMLQuantizationType.F16  # as mmproj files have them


def write_mmproj(path: Path, shape: VisionShape, text_width: int, silent_places: int) -> None:
    """A tower with random weights, whose last `silent_places` values per token are zero: a script needs them."""
    writer = GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_name("random SigLIP with Gemma-3's projection")
    writer.add_bool("clip.has_vision_encoder", val=True)
    writer.add_string("clip.projector_type", "gemma3")
    writer.add_bool("clip.use_gelu", val=True)
    writer.add_uint32("clip.vision.image_size", shape.image_pixels)
    writer.add_uint32("clip.vision.patch_size", shape.patch_pixels)
    writer.add_uint32("clip.vision.embedding_length", shape.width)
    writer.add_uint32("clip.vision.feed_forward_length", shape.feed_forward)
    writer.add_uint32("clip.vision.block_count", shape.layers)
    writer.add_uint32("clip.vision.attention.head_count", shape.heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", RMS_EPSILON)
    writer.add_uint32("clip.vision.projection_dim", text_width)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    tensors = Tensors(writer, seed=2)
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
            tensors.matrix(f"{block}.{name}.weight", rows, columns, _KIND)
            tensors.noise(f"{block}.{name}.bias", rows)
        for name in ("ln1", "ln2"):
            tensors.constant(f"{block}.{name}.weight", shape.width)
            tensors.noise(f"{block}.{name}.bias", shape.width)
    tensors.constant("v.post_ln.weight", shape.width)
    tensors.noise("v.post_ln.bias", shape.width)
    projection = tensors.values(shape.width, text_width)
    projection[:, text_width - silent_places :] = 0
    tensors.given("mm.input_projection.weight", projection, _KIND)
    tensors.constant("mm.soft_emb_norm.weight", shape.width)
    write(writer)
