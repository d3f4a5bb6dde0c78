"""A Gemma-3 and its vision tower, loaded by llama.cpp: its tokens, and pictures in its language.

Of the invariants that keep llama.cpp from ending the process (see `evaluator` for the others), these are kept here:

1. Only a picture decoded by us goes in, as raw RGB: no file, address or coded picture reaches llama.cpp's own decoders.
2. Text from outside is tokenized without special tokens; only the turn markers are ours.
3. Numbers that are none never leave the vision tower.

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

from crow_receiver.vision.llama.options import FlashAttention, LlamaOptions
from crow_receiver.vision.pixels import Pixels
from crow_shared.errors import CrowError, Kind

Embeddings = NDArray[np.float32]
"""A picture as the text model sees it: tokens x its width."""

FLASH_ATTENTION: dict[FlashAttention, int] = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_PIXELS_PER_TOKEN_SIDE = 56  # Gemma 3 makes one token of 4 by 4 patches of 14 by 14 pixels
_PIECE_BYTES = 256
_WARNING = 3  # of ggml_log_level; 4 is error, 5 continues a line
_ERROR = 4
_MADE_WITH_AMX = b"AMX_INT8 = 1"
_TURN_BEGINS, _TURN_ENDS = "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"


class GemmaModel:
    """Both files, loaded. `handle` is llama.cpp's model, `words` the size of its vocabulary."""

    def __init__(self, model_path: Path, mmproj_path: Path, options: LlamaOptions) -> None:
        """Loads both files.

        Raises CrowError(INVALID) when a file is no Gemma-3, or the two do not belong together.
        """
        llama_cpp.llama_log_set(_log, None)
        mtmd_cpp.mtmd_log_set(_log, None)
        mtmd_cpp.mtmd_helper_log_set(_log, None)
        llama_cpp.llama_backend_init()
        self.handle = _load_text_model(model_path, options.gpu_layers)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self.handle)
        self.words = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._width = int(llama_cpp.llama_model_n_embd(self.handle))
        self._pieces: dict[int, bytes] = {}
        self._tower = _load_tower(mmproj_path, self.handle, options)
        self._before_picture, self.image_tokens, self._after_picture = self._around_picture()
        self.image_side = math.isqrt(self.image_tokens) * _PIXELS_PER_TOKEN_SIDE  # the model sees a square

    def beginning(self, instructions: str) -> list[int]:
        """The tokens of a prompt up to the picture, the same for all frames."""
        bos = llama_cpp.llama_vocab_bos(self._vocabulary)
        begins = self.tokens(_TURN_BEGINS, special=True)
        return [bos, *begins, *self.tokens(instructions.strip() + "\n"), *self._before_picture]

    def question(self, text: str) -> list[int]:
        """The tokens of a prompt after the picture, up to the answer."""
        return [*self._after_picture, *self.tokens("\n" + text), *self.tokens(_TURN_ENDS, special=True)]

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """The tokens of a text; control tokens are recognized in it only if it is `special`."""
        data = text.encode()
        array = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), array, len(array), False, special)
        if count < 0:
            raise CrowError(Kind.INTERNAL, "model_failed", "the prompt could not be tokenized")
        return list(array[:count])

    def piece(self, token: int) -> bytes:
        """The text of a token; empty for control tokens, whose names are no text."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(_PIECE_BYTES)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, _PIECE_BYTES, 0, False)
            piece = self._pieces[token] = buffer.raw[: max(length, 0)]
        return piece

    def encode(self, picture: Pixels) -> Embeddings:
        """The picture as the text model sees it. Raises CrowError(INTERNAL) when the vision tower fails."""
        square = cv2.resize(picture, (self.image_side, self.image_side), interpolation=cv2.INTER_AREA)
        with self._chunks(square) as chunks:
            image = next(chunk for chunk in _each(chunks) if _is_image(chunk))
            if mtmd_cpp.mtmd_encode_chunk(self._tower, image) != 0:
                raise CrowError(Kind.INTERNAL, "model_failed", "the vision tower could not evaluate the picture")
            output = mtmd_cpp.mtmd_get_output_embd(self._tower)
            embeddings: Embeddings = np.ctypeslib.as_array(output, (self.image_tokens, self._width)).copy()
        if not np.isfinite(embeddings).all():
            raise CrowError(Kind.INTERNAL, "model_nan", "the vision tower's numbers are no numbers")
        return embeddings

    def _around_picture(self) -> tuple[list[int], int, list[int]]:
        """The markers before a picture, the number of its own tokens, and the markers after it."""
        before: list[int] = []
        after: list[int] = []
        image_tokens = 0
        with self._chunks(np.zeros((64, 64, 3), np.uint8)) as chunks:
            for chunk in _each(chunks):
                if _is_image(chunk):
                    image_tokens = int(mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk))
                else:
                    (after if image_tokens else before).extend(_text_tokens(chunk))
        if not image_tokens:
            raise CrowError(Kind.INVALID, "bad_model", "the mmproj file takes no pictures")
        return before, image_tokens, after

    @contextmanager
    def _chunks(self, picture: cv2.typing.MatLike) -> Iterator[Any]:
        """A picture as mtmd's chunks: markers and image."""
        rgb = np.ascontiguousarray(picture[:, :, ::-1], np.uint8)
        height, width = rgb.shape[:2]
        bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, rgb.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            marker = mtmd_cpp.mtmd_default_marker()
            text = mtmd_cpp.mtmd_input_text()
            text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
            bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
            result = mtmd_cpp.mtmd_tokenize(self._tower, chunks, ctypes.byref(text), bitmaps, 1)
            if result != 0:
                raise CrowError(Kind.INTERNAL, "model_failed", f"the picture could not be prepared ({result})")
            yield chunks
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            mtmd_cpp.mtmd_bitmap_free(bitmap)


def _each(chunks: Any) -> Iterator[Any]:
    for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
        yield mtmd_cpp.mtmd_input_chunks_get(chunks, index)


def _is_image(chunk: Any) -> bool:
    return bool(mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE)


def _text_tokens(chunk: Any) -> list[int]:
    count = ctypes.c_size_t()
    tokens = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return list(tokens[: count.value]) if count.value else []


def _load_text_model(path: Path, gpu_layers: int) -> Any:
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers
    parameters.use_extra_bufts = _repacked_kernels_work()
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


def _repacked_kernels_work() -> bool:
    """Whether weights may be repacked for faster kernels, of which those for AMX may end the process.

    See receiver/llama_build.cmake, which builds them right, and leaves a file that says so.
    """
    built_right = Path(llama_cpp.__file__).parent / "lib" / "amx-works"
    return _MADE_WITH_AMX not in llama_cpp.llama_print_system_info() or built_right.exists()


def _load_tower(path: Path, model: Any, options: LlamaOptions) -> Any:
    parameters = mtmd_cpp.mtmd_context_params_default()
    parameters.use_gpu = options.gpu_layers != 0
    parameters.n_threads = options.threads
    parameters.print_timings = False
    parameters.warmup = False
    # "auto" is off here, which takes 1.4 times as long and a gigabyte more.
    parameters.flash_attn_type = FLASH_ATTENTION["off" if options.flash_attention == "off" else "on"]
    tower = mtmd_cpp.mtmd_init_from_file(str(path).encode(), model, parameters)
    if not tower or not mtmd_cpp.mtmd_support_vision(tower):
        raise CrowError(Kind.INVALID, "bad_model", f"{path} is no mmproj file that belongs to this model")
    return tower


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes | None, _: Any) -> None:
    """Lets warnings and errors through to standard error, where the supervisor hears them."""
    if text and level in (_WARNING, _ERROR):
        os.write(2, text)
