"""The sizes of Gemma-3 models and of their vision towers."""

from dataclasses import dataclass

_POOLED = 4  # Gemma 3 pools 4 by 4 patches into a token


@dataclass(frozen=True, slots=True)
class TextShape:
    """The size of the language model. A vocabulary smaller than what is needed becomes as large as that."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_value_heads: int
    head_width: int
    sliding_window: int
    context: int
    vocabulary: int = 0


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

_WORDS = 262_144
TRUE_TEXT = {
    "1b": TextShape(26, 1152, 6912, 4, 1, 256, 512, 32_768, _WORDS),
    "4b": TextShape(34, 2560, 10_240, 8, 4, 256, 1024, 131_072, _WORDS),
    "12b": TextShape(48, 3840, 15_360, 16, 8, 256, 1024, 131_072, _WORDS),
}
SIGLIP = VisionShape(layers=27, width=1152, feed_forward=4304, heads=16, image_pixels=896, patch_pixels=14)
"""The tower of the 4B, 12B and 27B models."""
