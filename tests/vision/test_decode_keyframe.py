"""Keyframes become the pixels that a JPEG of the same picture gives, and damaged ones are told as such."""

import random
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from coded_keyframes import drawn_picture, keyframe
from vision_parts import coded

from crow_receiver.ingest.picture import MAX_PIXELS, inspect_picture
from crow_receiver.vision.decode import decode
from crow_receiver.vision.decode_keyframe import _for_decoder
from crow_shared import h26x
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding

H264, H265 = Encoding.H264, Encoding.H265
WIDTH, HEIGHT = 640, 360
NOISY = np.clip(
    drawn_picture(WIDTH, HEIGHT).astype(int) + np.random.default_rng(5).normal(0, 9, (HEIGHT, WIDTH, 3)), 0, 255
).astype(np.uint8)
ALL = (10**6, 10**6)


def refusal(encoding: Encoding, data: bytes) -> tuple[Kind, str]:
    with pytest.raises(CrowError) as caught:
        decode(encoding, data, ALL)
    return caught.value.kind, caught.value.code


def header_bytes(encoding: Encoding, data: bytes) -> int:
    """How long everything before the data of the first slice is."""
    units = h26x.nal_units(data)
    first = next(i for i, unit in enumerate(units) if h26x.nal_type(encoding, unit) in h26x.KEYFRAME_SLICES[encoding])
    return len(h26x.annex_b(units[:first])) + 40


@pytest.mark.parametrize("encoding", [H264, H265])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])  # in the limited range and in the full one
def test_a_keyframe_gives_the_same_picture_as_a_jpeg(encoding: Encoding, pix_fmt: str) -> None:
    shown = drawn_picture(WIDTH, HEIGHT)
    pixels = decode(encoding, keyframe(encoding, WIDTH, HEIGHT, "crf=12", picture=shown, pix_fmt=pix_fmt), ALL)
    jpeg = decode(Encoding.JPEG, coded(shown, cv2.IMWRITE_JPEG_QUALITY, 98), ALL)
    assert pixels.shape == jpeg.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - jpeg).mean() < 4
    assert np.abs(pixels.mean(axis=(0, 1)) - jpeg.mean(axis=(0, 1))).max() < 4, "neither range nor colours are shifted"


@pytest.mark.parametrize("encoding", list(Encoding))
def test_an_engine_gets_a_smaller_picture_where_that_is_enough(encoding: Encoding) -> None:
    shown = drawn_picture(1280, 720)
    data = coded(shown) if encoding is Encoding.JPEG else keyframe(encoding, 1280, 720, picture=shown)
    small, square, whole = (decode(encoding, data, least) for least in ((320, 1), (300, 300), ALL))
    assert small.shape == (180, 320, 3)
    assert square.shape == (360, 640, 3)
    assert whole.shape == (720, 1280, 3)
    assert np.abs(cv2.resize(whole, (320, 180), interpolation=cv2.INTER_AREA).astype(int) - small).mean() < 3
    odd = (
        coded(shown[:719, :1279])
        if encoding is Encoding.JPEG
        else keyframe(encoding, 1278, 718, picture=shown[:718, :1278])
    )
    assert decode(encoding, odd, (159, 80)).shape == (90, 160, 3)


@pytest.mark.parametrize("encoding", [H264, H265])
@pytest.mark.parametrize("params", ["", "slices=4", "crf=20"])
def test_a_picture_whose_end_is_missing_is_corrupt(encoding: Encoding, params: str) -> None:
    data = keyframe(encoding, WIDTH, HEIGHT, params, picture=NOISY)
    begin = header_bytes(encoding, data)
    for percent in range(0, 96, 5):
        cut = data[: begin + (len(data) - begin) * percent // 100]
        assert refusal(encoding, cut) == (Kind.CORRUPT, "picture_corrupt"), percent


@pytest.mark.parametrize("encoding", [H264, H265])
def test_a_picture_without_one_of_its_slices_is_corrupt(encoding: Encoding) -> None:
    units = h26x.nal_units(keyframe(encoding, WIDTH, HEIGHT, "slices=4", picture=NOISY))
    for lost in (-1, -2, -3):
        kept = [unit for number, unit in enumerate(units) if number != len(units) + lost]
        assert refusal(encoding, h26x.annex_b(kept)) == (Kind.CORRUPT, "picture_corrupt")


def flip(data: bytearray, place: int) -> bytes:
    data[place] ^= 0x10
    return bytes(data)


def overwrite(data: bytearray, place: int) -> bytes:
    data[place : place + 1400] = b"\xff" * len(data[place : place + 1400])
    return bytes(data)


def take_out(data: bytearray, place: int) -> bytes:
    del data[place : place + 1400]
    return bytes(data)


# Measured with several pictures and ways of coding: 97 to 100, 100 and 100 % of H.264, 34 to 98, 100 and 41 to 100 % of
# H.265, where the least is that of pure noise.
@pytest.mark.parametrize(
    ("encoding", "damage", "least_share"),
    [
        (H264, flip, 0.9), (H264, overwrite, 1.0), (H264, take_out, 1.0),
        (H265, flip, 0.6), (H265, overwrite, 1.0), (H265, take_out, 0.8),
    ],
)  # fmt: skip
def test_most_damage_inside_a_picture_is_found(
    encoding: Encoding, damage: Callable[[bytearray, int], bytes], least_share: float
) -> None:
    data = keyframe(encoding, WIDTH, HEIGHT, picture=NOISY)
    chance, begin = random.Random(1), header_bytes(encoding, data)
    found = 0
    for _ in range(40):
        try:
            decode(encoding, damage(bytearray(data), chance.randrange(begin, len(data) - 1400)), ALL)
        except CrowError:
            found += 1
    assert found >= least_share * 40


@pytest.mark.parametrize("encoding", [H264, H265])
def test_bytes_behind_the_last_slice_do_no_harm(encoding: Encoding) -> None:
    data = keyframe(encoding, WIDTH, HEIGHT)
    assert np.array_equal(decode(encoding, data + b"\x5a" * 999, ALL), decode(encoding, data, ALL))


@pytest.mark.parametrize("encoding", [H264, H265])
def test_one_damaged_picture_leaves_nothing_behind_for_the_next(encoding: Encoding) -> None:
    data = keyframe(encoding, WIDTH, HEIGHT)
    clean = decode(encoding, data, ALL)
    with pytest.raises(CrowError):
        decode(encoding, data[: len(data) * 2 // 3], ALL)
    assert np.array_equal(decode(encoding, data, ALL), clean)


@pytest.mark.parametrize("encoding", [H264, H265])
def test_what_is_not_part_of_the_picture_never_reaches_the_decoder(encoding: Encoding) -> None:
    data = keyframe(encoding, WIDTH, HEIGHT)
    message, private = (b"\x06", b"\x1e") if encoding is H264 else (b"\x4e\x01", b"\x6e\x01")
    rubbish = h26x.annex_b([message + b"\xff" * 3000, private + b"\xff" * 3000])
    kinds = {h26x.nal_type(encoding, unit) for unit in h26x.nal_units(_for_decoder(encoding, rubbish + data))}
    assert kinds <= h26x.PARAMETER_SETS[encoding] | h26x.KEYFRAME_SLICES[encoding]
    assert np.array_equal(decode(encoding, rubbish + data, ALL), decode(encoding, data, ALL))


def test_a_picture_of_one_colour_is_whole() -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (0, 255, 0), (255, 0, 0), (0, 0, 255), (0, 255, 255)):
        flat = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
        assert decode(H265, keyframe(H265, WIDTH, HEIGHT, picture=flat), ALL).shape == flat.shape


def test_the_boundary_refuses_keyframes_that_are_too_large() -> None:
    wide, high = 5008, 3200
    assert wide * high > MAX_PIXELS
    bomb = keyframe(H264, wide, high, "preset=ultrafast", picture=np.zeros((high, wide, 3), np.uint8))
    assert len(bomb) < 20_000
    for encoding, data in ((H264, bomb), (H264, keyframe(H264) + bytes(MAX_PICTURE_BYTES))):
        with pytest.raises(CrowError) as caught:
            inspect_picture(encoding, data)
        assert (caught.value.kind, caught.value.code) == (Kind.TOO_LARGE, "picture_too_large")
        assert refusal(encoding, data) == (Kind.TOO_LARGE, "picture_too_large")
