"""What the machine itself allows: how fast it reads weights, how fast it multiplies."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from crow_sim.gemma.shapes import TextShape, VisionShape

_READ_BYTES = 256 << 20  # per thread; far beyond any cache
_SIDE = 2048
_REPEATS = 5


def read_bytes_per_s(threads: int) -> float:
    """How many bytes all threads together read from memory in a second, at best."""
    arrays = [np.ones(_READ_BYTES // 8) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return max(threads * _READ_BYTES / _seconds(lambda: list(pool.map(np.sum, arrays))) for _ in range(_REPEATS))


def float_operations_per_s() -> float:
    """Of a product of two matrices of floats, as numpy's library does it with its own threads, at best."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    return max(2 * _SIDE**3 / _seconds(lambda: matrix @ matrix) for _ in range(_REPEATS))


def tower_operations(shape: VisionShape) -> float:
    """Multiplications and additions for one picture."""
    patches = (shape.image_pixels // shape.patch_pixels) ** 2
    weights = 4 * shape.width**2 + 2 * shape.width * shape.feed_forward
    attention = 2 * patches * shape.width
    return 2 * shape.layers * patches * (weights + attention)


def text_operations(shape: TextShape) -> float:
    """Multiplications and additions for one token, its logits among them."""
    heads = shape.heads * shape.head_width
    keys = 2 * shape.key_value_heads * shape.head_width
    layer = shape.width * (2 * heads + keys + 3 * shape.feed_forward)
    return 2 * (shape.layers * layer + shape.vocabulary * shape.width)


def _seconds(work: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s
