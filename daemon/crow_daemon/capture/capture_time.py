"""When a picture was taken, from a stream's timestamps and the wall clock. Pure: no clock, no I/O.

A stream's timestamps are exact to one another but begin anywhere; the wall clock is absolute but sees each picture late
by a jittering delay. So capture time is a stream timestamp plus an anchor, and the anchor is the earliest arrival so
far.

Invariants
1. Times given out rise strictly. The one exception is a clock that turns out to be behind by more than
   `MAX_DEPARTURE_US` (ours was set back, or the camera's own took over): it is followed at once, and counted.
2. A time is never later than the picture's arrival, except where the camera's own clock (RTCP) says so, or to keep 1.
3. Arrival and timestamps never part by more than `MAX_DEPARTURE_US` without a new anchor, which is counted.
4. A camera's clock is believed while it is within `MAX_CAMERA_OFFSET_US` of ours and keeps its distance to ours within
   `MAX_DEPARTURE_US`. After that it is not believed again in this connection: sender reports are read once only.
"""

from crow_shared.frame import TimeSource

MAX_DEPARTURE_US = 2_000_000
MAX_CAMERA_OFFSET_US = 60_000_000


class CaptureClock:
    """Turns the timestamps of one connection into capture times."""

    def __init__(self) -> None:
        """Not anchored yet: the first picture does it."""
        self._anchor_us: int | None = None  # capture time of stream timestamp 0
        self._camera_zero_us: int | None = None  # the same by the camera's clock
        self._camera_trusted = True
        self._camera_ahead_us: int | None = None  # of ours, when it was first used
        self._last_us: int | None = None
        self.jumps = 0

    def camera_clock(self, zero_us: int) -> None:
        """Takes the camera's own wall-clock time of stream timestamp 0, from an RTCP sender report."""
        if self._camera_trusted:
            self._camera_zero_us = zero_us

    def time_of(self, stream_us: int | None, arrival_us: int) -> tuple[int, TimeSource]:
        """The capture time, in microseconds since the Unix epoch, of a picture that has just arrived.

        `stream_us` is its stream timestamp, None when it has none yet.
        """
        time_us, source = arrival_us, TimeSource.ARRIVAL
        if stream_us is not None:
            time_us, source = self._anchored(stream_us, arrival_us)
        if self._last_us is not None and time_us <= self._last_us:
            if self._last_us - time_us > MAX_DEPARTURE_US:
                self.jumps += 1
            else:
                time_us = self._last_us + 1
        self._last_us = time_us
        return time_us, source

    def _anchored(self, stream_us: int, arrival_us: int) -> tuple[int, TimeSource]:
        if self._camera_zero_us is not None and self._camera_is_steady(stream_us, arrival_us):
            return stream_us + self._camera_zero_us, TimeSource.CAMERA
        if self._anchor_us is None:
            self._anchor_us = arrival_us - stream_us
        late_us = arrival_us - (stream_us + self._anchor_us)
        if abs(late_us) > MAX_DEPARTURE_US:
            self.jumps += 1
            self._anchor_us += late_us
        elif late_us < 0:
            self._anchor_us += late_us
        return stream_us + self._anchor_us, TimeSource.ARRIVAL

    def _camera_is_steady(self, stream_us: int, arrival_us: int) -> bool:
        assert self._camera_zero_us is not None
        ahead_us = stream_us + self._camera_zero_us - arrival_us
        if self._camera_ahead_us is None and abs(ahead_us) <= MAX_CAMERA_OFFSET_US:
            self._camera_ahead_us = ahead_us
        elif self._camera_ahead_us is None or abs(ahead_us - self._camera_ahead_us) > MAX_DEPARTURE_US:
            self.jumps += self._camera_ahead_us is not None
            self._camera_trusted, self._camera_zero_us = False, None
        return self._camera_trusted
