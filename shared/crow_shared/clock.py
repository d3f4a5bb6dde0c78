"""Time comes in through this port, so that tests can hold it still or make it jump."""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant by both clocks. The processes of one machine share them, so a moment may travel between these."""

    wall_us: int
    monotonic_s: float

    @classmethod
    def now(cls, clock: Clock) -> "Moment":
        """The present one."""
        return cls(clock.now_us(), clock.monotonic_s())

    def wall_at_us(self, monotonic_s: float) -> int:
        """What the wall clock, as it is set now, shows at another time of the monotonic one."""
        return self.wall_us + round((monotonic_s - self.monotonic_s) * 1_000_000)


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()
