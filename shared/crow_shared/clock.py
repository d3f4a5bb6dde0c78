"""Time comes in through this port, so that tests can hold it still or make it jump."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()
