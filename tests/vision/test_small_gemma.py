"""The Gemma-3 that the tests make."""

from pathlib import Path

import pytest

from crow_shared.errors import CrowError, Kind
from crow_sim.gemma import write_gemma3
from crow_sim.gemma.shapes import SMALL_VISION


def test_the_same_bytes_are_written_each_time(small_gemma: tuple[Path, Path], tmp_path: Path) -> None:
    for first, second in zip(small_gemma, write_gemma3(tmp_path), strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size < 1 << 20


def test_a_picture_becomes_sixteen_tokens() -> None:
    assert SMALL_VISION.image_tokens == 16


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CrowError) as caught:
        write_gemma3(tmp_path / "file")
    assert caught.value.kind is Kind.UNAVAILABLE
