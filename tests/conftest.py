"""Fixtures for all tests."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

CLIPS = Path(__file__).parents[2] / "shared" / "clips"


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now_us: int = 1_800_000_000_000_000) -> None:
        self._now_us = now_us
        self._monotonic_s = 1000.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now_us += int(seconds * 1_000_000)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Moves the wall clock alone, as a correction by NTP does."""
        self._now_us += int(seconds * 1_000_000)


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """Commands that are run in this process set it up."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def clips() -> Path:
    """Real footage, where it is at hand."""
    if not CLIPS.is_dir():
        pytest.skip("no clips beside the project")
    return CLIPS
