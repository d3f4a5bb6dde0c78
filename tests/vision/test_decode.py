"""From bytes to pixels in the worker."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pytest
from vision_parts import coded

from crow_receiver.vision.decode import decode
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding

ANY_SIZE = (10**6, 10**6)
whole = partial(decode, Encoding.JPEG, least=ANY_SIZE)
NOISE = np.random.default_rng(2).integers(0, 256, (120, 160, 3), np.uint8)
JPEG = coded(NOISE)


def test_a_whole_picture_decodes_to_its_pixels() -> None:
    grey = whole(coded(np.full((48, 64), 200, np.uint8)))
    assert grey.shape == (48, 64, 3)
    assert np.abs(grey.astype(int) - 200).max() <= 2


def test_a_picture_that_says_it_is_turned_is_left_as_it_lies() -> None:
    # An Exif segment with orientation 6, a quarter turn.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = JPEG[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + JPEG[2:]
    assert whole(turned).shape == (120, 160, 3)
    flags = cv2.IMREAD_COLOR
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), flags).shape == (160, 120, 3), "the orientation is real"


def test_a_picture_whose_data_stops_half_way_is_corrupt_although_it_has_an_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CrowError, match="premature end") as caught:
        whole(JPEG[: len(JPEG) // 2] + b"\xff\xd9")
    assert caught.value.kind is Kind.CORRUPT
    assert capfd.readouterr().err == "", "the complaint went into the error, not to standard error"


def test_damaged_tables_are_corrupt() -> None:
    position = JPEG.index(b"\xff\xc4") + 5
    with pytest.raises(CrowError) as caught:
        whole(JPEG[:position] + b"\xff" * 16 + JPEG[position + 16 :])
    assert caught.value.kind is Kind.CORRUPT


def test_padding_before_the_end_does_no_harm() -> None:
    assert np.array_equal(whole(JPEG[:-2] + bytes(40) + JPEG[-2:]), whole(JPEG))


def test_a_picture_that_the_boundary_would_refuse_is_never_decoded() -> None:
    with pytest.raises(CrowError) as caught:
        whole(JPEG[:-2])
    assert caught.value.code == "picture_truncated"


def test_pictures_that_are_decoded_at_the_same_time_are_judged_apart(capfd: pytest.CaptureFixture[str]) -> None:
    half = JPEG[: len(JPEG) // 2] + b"\xff\xd9"

    def judged(jpeg: bytes) -> str:
        try:
            whole(jpeg)
        except CrowError as error:
            return error.code
        return "whole"

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(judged, [JPEG, half] * 100)) == ["whole", "picture_corrupt"] * 100
    assert capfd.readouterr().err == ""


def test_what_another_thread_says_meanwhile_is_no_complaint_and_is_not_lost(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_really = cv2.imdecode

    def said_meanwhile(*arguments: object) -> object:
        os.write(2, b"a line of another thread\n")
        return decode_really(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(cv2, "imdecode", said_meanwhile)
    assert whole(JPEG).shape == (120, 160, 3)
    assert capfd.readouterr().err == "a line of another thread\n"
