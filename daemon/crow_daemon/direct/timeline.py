"""RTP timestamps without their ends: they are of 32 bits, begin anywhere, and begin anew with every new source."""

_WRAP = 1 << 32


class Timeline:
    """The timestamps of one connection as microseconds that only the stream itself can make go back."""

    def __init__(self, clock_hz: int) -> None:
        """Timestamps count `clock_hz` a second."""
        self._clock_hz = clock_hz
        self._ssrc: int | None = None
        self._last = 0  # timestamp, by which others are placed
        self._last_ticks = 0
        self._last_arrival_us = 0

    def place_us(self, ssrc: int, timestamp: int, arrival_us: int) -> int:
        """The stream's time of a picture that arrived then; the next ones may be half a wrap, 6.6 hours, from it.

        A new source (a camera that restarted its encoder) goes on where the last one was by our clock.
        """
        if ssrc != self._ssrc:
            passed_us = max(0, arrival_us - self._last_arrival_us) if self._ssrc is not None else 0
            self._last_ticks += passed_us * self._clock_hz // 1_000_000
            self._ssrc, self._last = ssrc, timestamp
        self._last_ticks += _distance(self._last, timestamp)
        self._last, self._last_arrival_us = timestamp, arrival_us
        return self._us(self._last_ticks)

    def us_of(self, ssrc: int, timestamp: int) -> int | None:
        """The stream's time of a timestamp near the last picture's; None for one of another source."""
        if ssrc != self._ssrc:
            return None
        return self._us(self._last_ticks + _distance(self._last, timestamp))

    def distance_us(self, earlier: int, later: int) -> int:
        """From one timestamp to another of the same source; negative when the later one is before it."""
        return self._us(_distance(earlier, later))

    def _us(self, ticks: int) -> int:
        return ticks * 1_000_000 // self._clock_hz


def _distance(earlier: int, later: int) -> int:
    """Taken the shorter way around."""
    return (later - earlier + _WRAP // 2) % _WRAP - _WRAP // 2
