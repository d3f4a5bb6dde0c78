"""Who is told what a camera's capture does."""

from typing import Protocol

from crow_daemon.capture.outcome import Outcome
from crow_daemon.capture.source import StreamInfo
from crow_shared.errors import CrowError


class Monitor(Protocol):
    """Told by the camera's thread, in the order in which things happen."""

    def connecting(self) -> None:
        """A connection is being tried; samples still miss for the reason that ended the last one."""
        ...

    def live(self, stream: StreamInfo) -> None:
        """The first whole picture of a connection has come; or what is said of its stream is different from now on."""
        ...

    def failed(self, error: CrowError) -> None:
        """A connection could not be made or was lost."""
        ...

    def damaged(self) -> None:
        """A picture came that could not be decoded whole."""
        ...

    def clock_jumped(self, times: int) -> None:
        """The stream's time parted from ours."""
        ...

    def sampled(self, capture_us: int, skipped_ticks: int, clock_skew_us: int | None = None) -> None:
        """A picture became a sample, so many ticks after the last one; its outcome follows.

        `clock_skew_us` is by how much the camera's clock was ahead of ours, None where it tells no time.
        """
        ...

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time. Each sample gets one, in any order."""
        ...

    def alert(self, word: str | None) -> None:
        """Something is wrong with what the camera shows, in a word (`gate.health`); None: not any more."""
        ...

    def finished(self, remaining_ticks: int) -> None:
        """A recording ended, so many ticks before it should have."""
        ...

    def stopped(self) -> None:
        """The capture was stopped; what is due later is not expected."""
        ...
