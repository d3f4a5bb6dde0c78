"""llama.cpp's context: which tokens it has seen, for several frames at once.

Invariants, all of which llama.cpp enforces by ending the process or by answers that are wrong:
1. No batch is larger than the context's, which holds a whole picture; nor asks for more logits than it has rows for.
2. A frame's sequence holds at most `context_tokens`; so all of them fit, whatever the others do.
3. Positions of a sequence have no gaps: it begins as a copy of the instructions and grows by what is evaluated.
4. Pictures are evaluated without causality and in one piece, since their tokens attend to one another.
5. After a failed evaluation nothing in the memory is trusted: `forget_all` zeroes it. A number that is none would
   otherwise reach other frames, since attention multiplies what it masks by zero.

It is used from one thread.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from crow_receiver.vision.llama.model import FLASH_ATTENTION, Embeddings, GemmaModel
from crow_receiver.vision.llama.options import KeyValueType, LlamaOptions
from crow_shared.errors import CrowError, Kind

Logits = NDArray[np.float32]
"""Rows of the batch that were asked for x words of the vocabulary; gone with the next evaluation."""

_GGML_TYPES: dict[KeyValueType, int] = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_INSTRUCTIONS = 0  # the sequence that no frame uses


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens that follow what a slot has, and for how many of the last ones logits are wanted."""

    slot: int
    tokens: Sequence[int]
    logits: int


class Evaluator:
    """Evaluates instructions once, and after them pictures and tokens of as many frames as there are slots."""

    def __init__(self, model: GemmaModel, instructions: Sequence[int], options: LlamaOptions, most_logits: int) -> None:
        """Makes the context, with the instructions evaluated. Raises CrowError(UNAVAILABLE) without memory for it."""
        self._model = model
        self._instructions = list(instructions)
        self.batch_tokens = max(options.batch_tokens, model.image_tokens)
        self.most_logits = min(most_logits, self.batch_tokens)
        self._context = _new_context(model, options, self.batch_tokens, self.most_logits)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = _Batch(self.batch_tokens)
        self._lengths = [0] * options.slots
        self.forget_all()

    def begin(self, slot: int) -> None:
        """Empties a slot: what it has is the instructions."""
        self.end(slot)
        llama_cpp.llama_memory_seq_cp(self._memory, _INSTRUCTIONS, slot + 1, -1, -1)
        self._lengths[slot] = len(self._instructions)

    def end(self, slot: int) -> None:
        """Lets go of what a slot has."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot + 1, -1, -1)
        self._lengths[slot] = 0

    def length(self, slot: int) -> int:
        """How many tokens a slot has, the instructions among them."""
        return self._lengths[slot]

    def shorten(self, slot: int, tokens: int) -> None:
        """Takes back the last tokens of a slot."""
        self._lengths[slot] -= tokens
        llama_cpp.llama_memory_seq_rm(self._memory, slot + 1, self._lengths[slot], -1)

    def forget_all(self) -> None:
        """Begins anew: all slots are empty, and no number of before is left. Raises CrowError(INTERNAL)."""
        llama_cpp.llama_memory_clear(self._memory, True)
        self._lengths = [0] * len(self._lengths)
        for start in range(0, len(self._instructions), self.batch_tokens):
            part = self._instructions[start : start + self.batch_tokens]
            self._batch.clear()
            self._batch.add(_INSTRUCTIONS, start, len(part), part)
            self._decode()

    def see(self, slots: Sequence[int], pictures: Sequence[Embeddings]) -> None:
        """Lets each slot see a picture, all in one batch.

        Raises CrowError(INTERNAL), and then nothing can be trusted.
        """
        self._batch.clear()
        for slot, picture in zip(slots, pictures, strict=True):
            self._batch.add(slot + 1, self._lengths[slot], len(picture))
        llama_cpp.llama_set_causal_attn(self._context, False)
        try:
            self._decode(np.concatenate(pictures))
        finally:
            llama_cpp.llama_set_causal_attn(self._context, True)
        for slot, picture in zip(slots, pictures, strict=True):
            self._lengths[slot] += len(picture)

    def read(self, parts: Sequence[Part]) -> list[Logits]:
        """Appends tokens to slots, all in one batch; the logits that each part wants.

        Raises CrowError(INTERNAL), and then nothing can be trusted.
        """
        self._batch.clear()
        for part in parts:
            self._batch.add(part.slot + 1, self._lengths[part.slot], len(part.tokens), part.tokens, part.logits)
        assert self._batch.logits <= self.most_logits, "more logits than there are rows for"
        self._decode()
        for part in parts:
            self._lengths[part.slot] += len(part.tokens)
        if not self._batch.logits:
            return [np.empty((0, self._model.words), np.float32) for _ in parts]
        rows = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (self._batch.logits, self._model.words))
        ends = np.cumsum([part.logits for part in parts])
        return [rows[end - part.logits : end] for part, end in zip(parts, ends, strict=True)]

    def _decode(self, embeddings: Embeddings | None = None) -> None:
        result = llama_cpp.llama_decode(self._context, self._batch.filled(embeddings))
        if result != 0:
            raise CrowError(Kind.INTERNAL, "model_failed", f"llama_decode returned {result}")


class _Batch:
    """llama.cpp's batch over arrays of ours, each row in one sequence."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._tokens = np.zeros(rows, np.int32)
        self._positions = np.zeros(rows, np.int32)
        self._sequences = np.zeros(rows, np.int32)
        self._sequence_counts = np.ones(rows, np.int32)
        self._wanted = np.zeros(rows, np.int8)
        row_bytes = self._sequences.itemsize
        self._sequence_pointers = self._sequences.ctypes.data + np.arange(rows, dtype=np.uintp) * row_bytes
        self._used = 0
        self.logits = 0

    def clear(self) -> None:
        self._used = self.logits = 0

    def add(
        self, sequence: int, position: int, rows: int, tokens: Sequence[int] | None = None, logits: int = 0
    ) -> None:
        """Rows at consecutive positions of a sequence, the last of them with logits."""
        first, end = self._used, self._used + rows
        assert end <= self._rows, "larger than the batch"
        if tokens is not None:
            self._tokens[first:end] = tokens
        self._positions[first:end] = np.arange(position, position + rows)
        self._sequences[first:end] = sequence
        self._wanted[first:end] = 0
        self._wanted[end - logits : end] = 1
        self._used, self.logits = end, self.logits + logits

    def filled(self, embeddings: Embeddings | None) -> Any:
        """The batch as llama.cpp takes it: of embeddings where they are given, else of tokens."""
        batch: Any = llama_cpp.llama_batch()
        batch.n_tokens = self._used
        if embeddings is None:
            batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
        else:
            batch.embd = embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos))
        batch.n_seq_id = self._sequence_counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._sequence_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id)))
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        return batch


def _new_context(model: GemmaModel, options: LlamaOptions, batch_tokens: int, most_logits: int) -> Any:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = options.slots * options.context_tokens  # the instructions are shared, so it is more than needed
    parameters.n_batch = parameters.n_ubatch = batch_tokens
    parameters.n_seq_max = options.slots + 1
    parameters.n_outputs_max = most_logits
    parameters.n_threads = parameters.n_threads_batch = options.threads
    parameters.type_k = parameters.type_v = _GGML_TYPES[options.kv_type]
    parameters.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
    parameters.kv_unified = True  # sequences share the cells of the instructions, and rows of any of them go together
    parameters.swa_full = True  # otherwise the sliding-window layers forget the instructions
    parameters.no_perf = True
    context = llama_cpp.llama_init_from_model(model.handle, parameters)
    if not context:
        raise CrowError(Kind.UNAVAILABLE, "no_context", "llama.cpp cannot make a context: is there enough memory?")
    return context
