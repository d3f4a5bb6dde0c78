"""Random tensors of a GGUF file."""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Kind = GGMLQuantizationType

_NOISE = 0.02
_LARGE = 4 << 20  # values: beyond it, blocks are drawn instead of being quantized from floats, which takes minutes
_POOL_BYTES = 64 << 20
_SPREAD = {Kind.Q4_0: 4.6, Kind.Q8_0: 74.0}  # of the integers in a block, when all of them are as likely


class Tensors:
    """Random tensors, from a generator of their own so that the files come out the same each time."""

    def __init__(self, writer: GGUFWriter, seed: int) -> None:
        self._writer = writer
        self.random = np.random.default_rng(seed)
        self._pool: NDArray[np.uint8] | None = None

    def matrix(self, name: str, rows: int, columns: int, kind: Kind) -> None:
        """A random matrix, scaled to keep the activations' size. Quantized ones run through kernels of their own."""
        if kind in _SPREAD and rows * columns > _LARGE:
            self._writer.add_tensor(name, self.blocks(rows, columns, kind), raw_dtype=kind)
        else:
            self.given(name, self.values(rows, columns), kind)

    def given(self, name: str, values: Matrix, kind: Kind) -> None:
        """A matrix of these values."""
        self._writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def raw(self, name: str, blocks: NDArray[np.uint8], kind: Kind) -> None:
        """A matrix of quantized blocks."""
        self._writer.add_tensor(name, blocks, raw_dtype=kind)

    def values(self, rows: int, columns: int) -> Matrix:
        """Random values of a matrix that keeps the activations' size."""
        values: Matrix = self.random.standard_normal((rows, columns), np.float32)
        return values / np.float32(np.sqrt(columns))

    def blocks(self, rows: int, columns: int, kind: Kind, scale: float = 1.0) -> NDArray[np.uint8]:
        """Random blocks of a quantized matrix, all with the same scale: rows x bytes."""
        block_values, block_bytes = GGML_QUANT_SIZES[kind]
        count = rows * columns // block_values
        if self._pool is None:
            self._pool = self.random.integers(0, 256, _POOL_BYTES, np.uint8)
        shift = int(self.random.integers(0, _POOL_BYTES))
        drawn = np.resize(np.roll(self._pool, shift), count * block_bytes).reshape(count, block_bytes)
        step = np.float16(scale / np.sqrt(columns) / _SPREAD[kind])
        drawn[:, :2] = np.frombuffer(step.tobytes(), np.uint8)
        return drawn.reshape(rows, columns // block_values * block_bytes)

    def noise(self, name: str, *shape: int) -> None:
        """Small values."""
        self._writer.add_tensor(name, (self.random.standard_normal(shape) * _NOISE).astype(np.float32))

    def constant(self, name: str, size: int, value: float = 1) -> None:
        """The same value everywhere."""
        self._writer.add_tensor(name, np.full(size, value, np.float32))
