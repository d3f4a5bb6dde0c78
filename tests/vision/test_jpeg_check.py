"""What the ingest boundary learns of a picture without decoding it."""

import random
import time
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vision_parts import coded

from crow_receiver.ingest.jpeg import MAX_PADDING_BYTES
from crow_receiver.ingest.picture import inspect_picture
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding

inspect_jpeg = partial(inspect_picture, Encoding.JPEG)
NOISE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
JPEG = coded(NOISE)
PROGRESSIVE = coded(NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = coded(NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
START_OF_FRAME = JPEG.index(b"\xff\xc0")


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def with_size(width: int, height: int) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return JPEG[: START_OF_FRAME + 5] + size + JPEG[START_OF_FRAME + 9 :]


def refusal(data: bytes) -> tuple[Kind, str]:
    with pytest.raises(CrowError) as caught:
        inspect_jpeg(data)
    return caught.value.kind, caught.value.code


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE, RESTARTS, coded(NOISE[:, :, 0])])
def test_the_size_of_a_whole_picture_is_read_from_its_header(jpeg: bytes) -> None:
    assert inspect_jpeg(jpeg) == (64, 48)


def test_a_thumbnail_inside_a_segment_is_not_taken_for_the_picture() -> None:
    thumbnail = coded(np.zeros((8, 8, 3), np.uint8))
    assert inspect_jpeg(JPEG[:2] + segment(0xE1, b"Exif\0\0" + thumbnail) + JPEG[2:]) == (64, 48)


def test_stray_bytes_between_segments_are_passed_over() -> None:
    assert inspect_jpeg(JPEG[:START_OF_FRAME] + b"\x00\x17\xff\xff" + JPEG[START_OF_FRAME:]) == (64, 48)


def test_some_zeros_after_the_end_are_tolerated_and_anything_else_is_not() -> None:
    assert inspect_jpeg(JPEG + bytes(MAX_PADDING_BYTES)) == (64, 48)
    assert refusal(JPEG + bytes(MAX_PADDING_BYTES + 1)) == (Kind.INVALID, "not_a_picture")
    assert refusal(JPEG + b"<?php") == (Kind.INVALID, "not_a_picture")


@pytest.mark.parametrize("data", [b"", b"\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", JPEG[1:], b"RIFF\0\0\0\0WEBP"])
def test_what_does_not_begin_as_a_jpeg_is_no_picture(data: bytes) -> None:
    assert refusal(data) == (Kind.INVALID, "not_a_picture")


def test_a_picture_cut_off_anywhere_is_refused() -> None:
    for length in range(2, len(JPEG) - 1):
        assert refusal(JPEG[:length]) == (Kind.INVALID, "picture_truncated"), length


def test_a_small_file_that_would_become_a_huge_picture_is_refused() -> None:
    assert refusal(with_size(65_500, 65_500)) == (Kind.TOO_LARGE, "picture_too_large")
    assert refusal(with_size(4001, 4000)) == (Kind.TOO_LARGE, "picture_too_large")
    assert inspect_jpeg(with_size(4000, 4000)) == (4000, 4000)


def test_too_many_bytes_are_refused() -> None:
    assert refusal(JPEG + bytes(MAX_PICTURE_BYTES)) == (Kind.TOO_LARGE, "picture_too_large")


@pytest.mark.parametrize("size", [(0, 48), (64, 0), (0, 0)])
def test_a_picture_without_area_is_refused(size: tuple[int, int]) -> None:
    assert refusal(with_size(*size)) == (Kind.INVALID, "not_a_picture")


def test_a_second_size_cannot_hide_behind_the_first() -> None:
    bomb = segment(0xC0, bytes((8, 0xFF, 0xFF, 0xFF, 0xFF, 3)) + bytes(9))
    assert refusal(JPEG[:-2] + bomb + JPEG[-2:]) == (Kind.INVALID, "not_a_picture")


def test_a_progressive_picture_of_very_many_scans_is_refused() -> None:
    scan = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    assert refusal(PROGRESSIVE[:-2] + scan * 64 + PROGRESSIVE[-2:]) == (Kind.TOO_LARGE, "picture_too_large")


def test_a_picture_of_very_many_segments_is_refused() -> None:
    assert refusal(JPEG[:2] + segment(0xFE, b"") * 2000 + JPEG[2:]) == (Kind.INVALID, "not_a_picture")


def test_rare_codings_are_named_as_unsupported() -> None:
    lossless = JPEG[:START_OF_FRAME] + b"\xff\xc3" + JPEG[START_OF_FRAME + 2 :]
    four_colours = JPEG[: START_OF_FRAME + 9] + b"\x04" + JPEG[START_OF_FRAME + 10 :]
    assert refusal(lossless) == (Kind.UNSUPPORTED, "picture_unsupported")
    assert refusal(four_colours) == (Kind.UNSUPPORTED, "picture_unsupported")


def outcome(data: bytes) -> object:
    """The size or the CrowError; anything else that is raised fails the test."""
    try:
        return inspect_jpeg(data)
    except CrowError as error:
        return error


@given(st.binary(max_size=600))
def test_random_bytes_never_raise_anything_but_a_typed_error(data: bytes) -> None:
    assert isinstance(outcome(data), CrowError)
    outcome(b"\xff\xd8" + data)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(PROGRESSIVE) - 1), st.integers(0, 255)), min_size=1, max_size=30))
def test_mutated_pictures_never_raise_anything_but_a_typed_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(PROGRESSIVE)
    for position, value in changes:
        data[position] = value
    assert isinstance(outcome(bytes(data)), (tuple, CrowError))


@pytest.mark.parametrize(
    "filling",
    [b"\xff", b"\xff\x00", b"\x00", b"\xff\xd0", b"\xff\xc4\x00\x02", b"\xff\xda\x00\x02", b"\xff\xe0\xff\xff"],
)
def test_no_two_mebibytes_take_long(filling: bytes) -> None:
    head = JPEG[: JPEG.index(b"\xff\xda")]
    data = (head + random.Random(1).randbytes(64) + filling * MAX_PICTURE_BYTES)[:MAX_PICTURE_BYTES]
    for start in (b"\xff\xd8" + filling * (MAX_PICTURE_BYTES // len(filling) - 1), data):
        before_s = time.process_time()
        outcome(start)
        assert time.process_time() - before_s < 0.1
