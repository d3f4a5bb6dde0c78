"""When a picture was taken, from a stream's timestamps, the camera's clock and ours. Pure: no clock, no I/O.

A stream's timestamps are exact to one another but begin anywhere. Our clock is absolute but sees each picture late by a
jittering delay; so the anchor, what our clock showed at timestamp 0, is that of the least delayed picture of the last
one to two minutes. That span lets the anchor follow two clocks that run at slightly different rates. A camera that
sends RTCP sender reports (RFC 3550 section 6.4.1) says what its own clock showed at timestamp 0; the difference to the
anchor is its skew, which thus lacks only the delay of the fastest picture.

Invariants
1. Times given out rise strictly, unless our own clock was set back by more than `MAX_DEPARTURE_US`: that is followed at
   once, and counted.
2. By our clock, a time is never later than the picture's arrival, except to keep 1.
3. Arrival and timestamps never part by more than `MAX_DEPARTURE_US` without a new anchor, which is counted. (A stream
   whose timestamps jump, either way, goes on in our time as if they had not.)
4. The camera's clock gives the time while its skew is within `MAX_SKEW_US`: only then is it the better witness. One
   that parts further is left at once, counted, and taken up again when it is back within half of that. The skew is
   told either way.
5. Times and skew outlive connections: while a new one has brought no sender report, for `_SKEW_HOLDS_US` at most, the
   skew of the one before holds, so that a camera whose clock is off goes on where it was.
"""

from crow_shared.frame import TimeSource

MAX_DEPARTURE_US = 2_000_000
MAX_SKEW_US = 2_000_000
_ANCHOR_SPAN_US = 60_000_000
_SKEW_HOLDS_US = 60_000_000  # cameras send a report every few seconds


class CaptureClock:
    """Turns the timestamps of one camera's connections into capture times."""

    def __init__(self) -> None:
        """Of a camera that is about to be connected to for the first time."""
        self._camera_used = False
        self._last_us: int | None = None
        self._last_arrival_us: int | None = None
        self.skew_us: int | None = None  # by how much the camera's clock is ahead of ours; None while it tells no time
        self.connected()

    def connected(self) -> None:
        """Timestamps begin anew. The first picture anchors them."""
        self._anchor = _Anchor()
        self._camera_zero_us: int | None = None  # what the camera's clock showed at stream timestamp 0
        self._first_arrival_us: int | None = None
        self.jumps = 0  # in this connection

    def camera_clock(self, zero_us: int) -> None:
        """Takes the camera's wall-clock time of stream timestamp 0, of its latest sender report, in microseconds."""
        self._camera_zero_us = zero_us

    def time_of(self, stream_us: int | None, arrival_us: int) -> tuple[int, TimeSource]:
        """The capture time, in microseconds since the Unix epoch, of a picture that has just arrived.

        `stream_us` is its stream timestamp, None when it has none yet.
        """
        time_us, source = arrival_us, TimeSource.ARRIVAL
        if stream_us is not None:
            time_us, source = self._witnessed(stream_us, arrival_us)
        if self._last_arrival_us is not None and arrival_us < self._last_arrival_us - MAX_DEPARTURE_US:
            self._last_us = None  # our clock was set back
        if self._last_us is not None:
            time_us = max(time_us, self._last_us + 1)
        self._last_us, self._last_arrival_us = time_us, arrival_us
        return time_us, source

    def _witnessed(self, stream_us: int, arrival_us: int) -> tuple[int, TimeSource]:
        jumped = self._anchor.follow(stream_us, arrival_us)
        if self._first_arrival_us is None:
            self._first_arrival_us = arrival_us
        if self._camera_zero_us is not None:
            self.skew_us = self._camera_zero_us - self._anchor.zero_us
            was_used = self._camera_used
            self._camera_used = abs(self.skew_us) <= (MAX_SKEW_US if was_used else MAX_SKEW_US // 2)
            jumped = jumped or (was_used and not self._camera_used)
        elif arrival_us - self._first_arrival_us > _SKEW_HOLDS_US:
            self.skew_us, self._camera_used = None, False
        self.jumps += jumped
        our_us = stream_us + self._anchor.zero_us
        if self._camera_used and self.skew_us is not None:
            return our_us + self.skew_us, TimeSource.CAMERA
        return our_us, TimeSource.ARRIVAL


class _Anchor:
    """What our clock showed at stream timestamp 0, by the least delayed picture of this span and the one before."""

    def __init__(self) -> None:
        self._begun_us: int | None = None  # of this span, by arrival
        self._earliest_us = 0
        self._earlier_us = 0  # of the span before

    @property
    def zero_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return min(self._earliest_us, self._earlier_us)

    def follow(self, stream_us: int, arrival_us: int) -> bool:
        """Takes a picture into account; whether timestamps and arrival had parted so far that all begins anew."""
        zero_us = arrival_us - stream_us
        if self._begun_us is None or abs(zero_us - self.zero_us) > MAX_DEPARTURE_US:
            parted = self._begun_us is not None
            self._begun_us, self._earliest_us, self._earlier_us = arrival_us, zero_us, zero_us
            return parted
        if arrival_us - self._begun_us >= _ANCHOR_SPAN_US:
            self._begun_us, self._earlier_us, self._earliest_us = arrival_us, self._earliest_us, zero_us
        self._earliest_us = min(self._earliest_us, zero_us)
        return False
