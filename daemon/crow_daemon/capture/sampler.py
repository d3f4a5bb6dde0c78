"""Which pictures of a stream become samples. Pure: no clock, no I/O.

Capture time is cut into ticks of one sample interval, counted from the Unix epoch, and the first picture of each tick
is taken. So the rate cannot drift, cameras of one rate sample the same instants, and after an overrun the sampler is
at the present tick at once, without catching up.

Where pictures are as rare as ticks (keyframes alone), and come near the border between two of them, jitter would put
two pictures into one tick and none into the next. There a picture may be taken up to `EARLY` before its tick begins.

Invariants
1. At most one sample per tick; between two samples lie as many ticks as `take` reports for the second.
2. A clock that was set back by more than one tick starts the count anew: samples do not stop until it has caught up.
3. Pictures that come about one interval apart all become samples, wherever in their ticks they lie.
"""

EARLY = 0.25  # intervals
_RARE = 0.75  # intervals: pictures that are further apart are as rare as ticks


class Sampler:
    """The sampler of one camera; it outlives reconnects."""

    def __init__(self, interval_us: int) -> None:
        """Ticks of `interval_us` microseconds."""
        self._interval_us = interval_us
        self._last_tick: int | None = None
        self._last_picture_us = 0
        self._rare = 0  # pictures in a row that came as rarely as ticks

    def take(self, capture_us: int) -> int | None:
        """None to pass the picture over; else it is a sample, and this is the number of ticks skipped before it."""
        rare = capture_us - self._last_picture_us >= self._interval_us * _RARE
        self._rare, self._last_picture_us = self._rare + 1 if rare else 0, capture_us
        last, tick = self._last_tick, self._tick_of(capture_us)
        if last is not None and last - 1 <= tick <= last:
            return None
        self._last_tick = tick
        return tick - last - 1 if last is not None and tick > last else 0

    def ticks_until(self, end_us: int) -> int:
        """The number of ticks that begin after the last sample's and before `end_us`."""
        if self._last_tick is None:
            return 0
        return max(0, (end_us - 1) // self._interval_us - self._last_tick)

    def _tick_of(self, capture_us: int) -> int:
        tick = capture_us // self._interval_us
        if tick == self._last_tick and self._rare > 1:  # the first may stand behind a hole
            early = capture_us % self._interval_us >= self._interval_us * (1 - EARLY)
            return tick + 1 if early else tick
        return tick
