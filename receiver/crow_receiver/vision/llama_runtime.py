"""One Gemma-3 in llama.cpp, spoken to through its C interface; for the worker process alone.

llama.cpp ends the process on many mistakes of its caller, so the invariants are kept here before each call:

1. Only a picture decoded by us goes in, as raw RGB: no file, address or coded picture reaches llama.cpp's own decoders.
2. Text from outside is tokenized without special tokens; only the turn markers are ours.
3. The micro-batch holds a whole picture's tokens, which Gemma attends to at once; no batch is larger than it.
4. Prompt, picture and longest answer fit into the context before anything is evaluated.
5. A grammar is used only if it compiled; a token is accepted only if the grammar allowed it.
6. Logits that are not numbers stop the answer before the grammar sees them.
7. The instructions stay evaluated at the start of the one sequence; each frame begins by dropping all that follows.

It lives as long as its process: nothing but what belongs to one frame is ever freed.
"""

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp
from numpy.typing import NDArray

from crow_receiver.vision.pixels import Pixels
from crow_shared.errors import CrowError, Kind

CONTEXT_TOKENS = 4096
LEAST_BATCH_TOKENS = 512
_PIXELS_PER_TOKEN_SIDE = 56  # Gemma 3 makes one token of 4 by 4 patches of 14 by 14 pixels
_SHORTLIST = 256  # tokens that are asked about when the likeliest is refused, before all are
_PIECE_BYTES = 256
_WARNING = 3  # of ggml_log_level; 4 is error, 5 continues a line
_ERROR = 4
_NEVER_WRITTEN = (
    llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN | llama_cpp.LLAMA_TOKEN_ATTR_UNUSED | llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
)
_TURN_BEGINS, _TURN_ENDS = "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"


class GemmaRuntime:
    """A loaded model that answers questions about pictures, one at a time and from one thread."""

    def __init__(self, model_path: Path, mmproj_path: Path, instructions: str, threads: int, gpu_layers: int) -> None:
        """Loads both files and evaluates the instructions.

        Raises CrowError(INVALID) when a file is no Gemma-3, or the two do not belong together.
        """
        llama_cpp.llama_log_set(_log, None)
        mtmd_cpp.mtmd_log_set(_log, None)
        mtmd_cpp.mtmd_helper_log_set(_log, None)
        llama_cpp.llama_backend_init()
        threads = threads or len(os.sched_getaffinity(0))
        self._model = _load_model(model_path, gpu_layers)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._words = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._vision = _load_vision(mmproj_path, self._model, threads, gpu_layers)
        self.image_tokens = self._count_image_tokens()
        self.image_side = math.isqrt(self.image_tokens) * _PIXELS_PER_TOKEN_SIDE  # the model sees a square
        self._batch_tokens = max(LEAST_BATCH_TOKENS, self.image_tokens)
        self._context = _new_context(self._model, threads, self._batch_tokens)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._never_written = self._mask_of_never_written()
        self._candidates = (llama_cpp.llama_token_data * self._words)()
        self._candidate_rows = np.frombuffer(self._candidates, [("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        bos = llama_cpp.llama_vocab_bos(self._vocabulary)
        beginning = [bos, *self._tokens(_TURN_BEGINS, special=True), *self._tokens(instructions.strip() + "\n")]
        self._evaluate(beginning)
        self._beginning_tokens = len(beginning)

    def answer(self, picture: Pixels, question: str, gbnf: str, longest_bytes: int) -> str:
        """What the model says to `question` about the picture, greedily and within the grammar.

        Raises CrowError: INVALID when question and answer do not fit into the context, INTERNAL when the grammar or the
        model fails.
        """
        question_tokens = [*self._tokens("\n" + question), *self._tokens(_TURN_ENDS, special=True)]
        with self._grammar(gbnf) as grammar, self._image(picture) as chunks:
            # A token is at least one byte, so the answer has at most as many tokens as it has bytes.
            needed = self._beginning_tokens + _length(chunks) + len(question_tokens) + longest_bytes
            if needed > CONTEXT_TOKENS:
                raise CrowError(
                    Kind.INVALID,
                    "question_too_long",
                    f"a frame with these zones may need {needed} tokens of context, and there are {CONTEXT_TOKENS}",
                )
            llama_cpp.llama_memory_seq_rm(self._memory, 0, self._beginning_tokens, -1)
            self._evaluate_image(chunks)
            self._evaluate(question_tokens)
            return self._generate(grammar, longest_bytes)

    def _generate(self, grammar: Any, most_tokens: int) -> str:
        text = bytearray()
        for _ in range(most_tokens):
            token = self._next_token(grammar)
            llama_cpp.llama_sampler_accept(grammar, token)
            text += self._piece(token)
            if self._is_complete(grammar):
                return text.decode("utf-8", "replace")
            self._evaluate([token])
        raise CrowError(Kind.INTERNAL, "answer_truncated", f"the answer did not end within {most_tokens} tokens")

    def _next_token(self, grammar: Any) -> int:
        """The likeliest token that the grammar allows: the very likeliest as a rule, so that is asked about first."""
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), (self._words,))
        logits[self._never_written] = -np.inf
        if not np.isfinite(logits.max()):
            raise CrowError(Kind.INTERNAL, "model_nan", "the model's numbers are no numbers")
        for select in (_likeliest, _shortlist, _all):
            tokens = select(logits)
            allowed = self._allowed(grammar, tokens, logits[tokens])
            best = int(allowed.argmax())
            if np.isfinite(allowed[best]):
                return int(tokens[best])
        raise CrowError(Kind.INTERNAL, "grammar_dead_end", "the grammar allows none of the model's tokens")

    def _allowed(self, grammar: Any, tokens: NDArray[np.intp], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits, minus infinity where the grammar refuses the token."""
        count = len(tokens)
        rows = self._candidate_rows[:count]
        rows["id"], rows["logit"], rows["p"] = tokens, logits, 0
        array = llama_cpp.llama_token_data_array(data=self._candidates, size=count, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(grammar, ctypes.byref(array))
        logits_left: NDArray[np.float32] = rows["logit"].copy()
        return logits_left

    def _is_complete(self, grammar: Any) -> bool:
        """Whether the grammar allows the answer to end here, which ours does in one place only."""
        end = np.array([llama_cpp.llama_vocab_eos(self._vocabulary)])
        return bool(np.isfinite(self._allowed(grammar, end, np.zeros(1, np.float32)))[0])

    def _evaluate(self, tokens: list[int]) -> None:
        for start in range(0, len(tokens), self._batch_tokens):
            part = tokens[start : start + self._batch_tokens]
            array = (llama_cpp.llama_token * len(part))(*part)
            result = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(part)))
            if result != 0:
                raise CrowError(Kind.INTERNAL, "model_failed", f"llama_decode returned {result}")

    def _evaluate_image(self, chunks: Any) -> None:
        position = llama_cpp.llama_pos(self._beginning_tokens)
        for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
            result = mtmd_cpp.mtmd_helper_eval_chunk_single(
                self._vision,
                self._context,
                chunk,
                position,
                llama_cpp.llama_seq_id(0),
                self._batch_tokens,
                False,  # no logits
                ctypes.byref(position),
            )
            if result != 0:
                raise CrowError(Kind.INTERNAL, "model_failed", f"the picture's evaluation returned {result}")

    @contextmanager
    def _image(self, picture: Pixels) -> Iterator[Any]:
        """The picture as the model's chunks: its markers and its tokens."""
        square = cv2.resize(picture, (self.image_side, self.image_side), interpolation=cv2.INTER_AREA)
        with self._chunks(square) as chunks:
            yield chunks

    @contextmanager
    def _chunks(self, picture: Any) -> Iterator[Any]:
        rgb = np.ascontiguousarray(picture[:, :, ::-1], np.uint8)
        height, width = rgb.shape[:2]
        bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, rgb.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            marker = mtmd_cpp.mtmd_default_marker()
            text = mtmd_cpp.mtmd_input_text()
            text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
            bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
            result = mtmd_cpp.mtmd_tokenize(self._vision, chunks, ctypes.byref(text), bitmaps, 1)
            if result != 0:
                raise CrowError(Kind.INTERNAL, "model_failed", f"the picture could not be prepared ({result})")
            yield chunks
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            mtmd_cpp.mtmd_bitmap_free(bitmap)

    @contextmanager
    def _grammar(self, gbnf: str) -> Iterator[Any]:
        grammar = llama_cpp.llama_sampler_init_grammar(self._vocabulary, gbnf.encode(), b"root")
        if not grammar:
            raise CrowError(Kind.INTERNAL, "bad_grammar", "llama.cpp does not take the answer's grammar")
        try:
            yield grammar
        finally:
            llama_cpp.llama_sampler_free(grammar)

    def _count_image_tokens(self) -> int:
        with self._chunks(np.zeros((64, 64, 3), np.uint8)) as chunks:
            for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
                chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
                if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                    return int(mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk))
        raise CrowError(Kind.INVALID, "bad_model", "the mmproj file takes no pictures")

    def _mask_of_never_written(self) -> NDArray[np.bool_]:
        """Control tokens: the grammar would take their names for text. Where the answer ends, the grammar says."""
        attributes = [llama_cpp.llama_vocab_get_attr(self._vocabulary, token) for token in range(self._words)]
        return np.array([attribute & _NEVER_WRITTEN != 0 for attribute in attributes])

    def _tokens(self, text: str, *, special: bool = False) -> list[int]:
        data = text.encode()
        array = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), array, len(array), False, special)
        if count < 0:
            raise CrowError(Kind.INTERNAL, "model_failed", "the prompt could not be tokenized")
        return list(array[:count])

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, _PIECE_BYTES, 0, False)
        return buffer.raw[: max(length, 0)]


def _likeliest(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.array([logits.argmax()])


def _shortlist(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.argpartition(logits, -_SHORTLIST)[-_SHORTLIST:]


def _all(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.arange(len(logits))


def _load_model(path: Path, gpu_layers: int) -> Any:
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers
    parameters.use_extra_bufts = not _has_amx()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise CrowError(Kind.INVALID, "bad_model", f"llama.cpp cannot load {path}")
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    llama_cpp.llama_model_meta_val_str(model, b"general.architecture", buffer, _PIECE_BYTES)
    if buffer.value != b"gemma3":
        raise CrowError(
            Kind.INVALID, "bad_model", f"{path} is a {buffer.value.decode('ascii', 'replace')}, not a gemma3"
        )
    return model


def _has_amx() -> bool:
    """Whether the processor has AMX, where ggml's kernels for quantized weights are not to be trusted.

    GCC 12 takes the stores of the tile configuration for dead (its `_tile_loadconfig` claims to read 8 of the 64
    bytes), and what it builds ends the process with a general protection fault at the first batch.
    """
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False


def _load_vision(path: Path, model: Any, threads: int, gpu_layers: int) -> Any:
    parameters = mtmd_cpp.mtmd_context_params_default()
    parameters.use_gpu = gpu_layers != 0
    parameters.n_threads = threads
    parameters.print_timings = False
    parameters.warmup = False
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED  # off by default, and 1.4 times slower so
    vision = mtmd_cpp.mtmd_init_from_file(str(path).encode(), model, parameters)
    if not vision or not mtmd_cpp.mtmd_support_vision(vision):
        raise CrowError(Kind.INVALID, "bad_model", f"{path} is no mmproj file that belongs to this model")
    return vision


def _new_context(model: Any, threads: int, batch_tokens: int) -> Any:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_batch = parameters.n_ubatch = batch_tokens
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.swa_full = True  # otherwise the sliding-window layers forget the instructions, and they cannot be kept
    parameters.no_perf = True
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise CrowError(Kind.UNAVAILABLE, "no_context", "llama.cpp cannot make a context: is there enough memory?")
    return context


def _length(chunks: Any) -> int:
    return int(mtmd_cpp.mtmd_helper_get_n_tokens(chunks))


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes | None, _: Any) -> None:
    """Lets warnings and errors through to standard error, where the supervisor hears them."""
    if text and level in (_WARNING, _ERROR):
        os.write(2, text)
