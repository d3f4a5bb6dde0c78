"""Whether a camera's keyframes come often enough to be its samples. Pure: no clock, no I/O.

Decoding a keyframe a second costs about a quarter of decoding the whole stream, and sending it as it is costs far less
again; but a sample without a keyframe is lost. So it is watched how far apart they come.

Invariants
1. `enough` is None until it is known, then true or false; it outlives connections. Of samples that are due more often
   than cameras make keyframes it is false until they have shown otherwise: trying would cost a second's samples.
2. It turns false with the first distance that costs a sample, or when the last distances are longer than the interval
   on the average, or when keyframes prove useless. It turns true after `_STEADY` good distances in a row, after twice
   as many each time that it had turned false again: a camera that keeps changing ends at what loses nothing.
3. Between two keyframes with a hole between them (a new connection, damage, a timestamp that jumped) lies no distance.
"""

from collections import deque

_USUAL_US = 500_000  # hardly any camera makes keyframes more often
_STEADY = 3
_MOST_STEADY = 1000
_AVERAGED = 8
_MEAN_LIMIT = 1.02  # intervals: loses one sample in fifty at most, and only while the two clocks stay that far apart
_PLAUSIBLE_US = 600_000_000  # what is further apart was not encoded so: the timestamps jumped
_SINGLE_LIMIT = 1.5  # intervals: more than this and a tick has certainly gone without


class KeyframeRhythm:
    """The distances of one camera's keyframes, against its sample interval."""

    def __init__(self, interval_us: int) -> None:
        """Samples are due every `interval_us` microseconds."""
        self._interval_us = interval_us
        self._codec: str | None = None
        self._last_us: int | None = None
        self._recent: deque[int] = deque(maxlen=_AVERAGED)
        self._good = 0
        self._wanted = _STEADY
        self._presumed = None if interval_us >= _USUAL_US else False
        self.enough: bool | None = self._presumed
        self.useless: str | None = None  # why keyframes cannot stand for themselves, while they cannot
        self.longest_us: int | None = None  # of the recent distances

    def connected(self, codec: str) -> None:
        """A new connection to the stream: what is known stands, unless it is coded otherwise now."""
        if self._codec not in (None, codec):
            self._recent.clear()
            self.enough = self._presumed
            self.useless = self.longest_us = None
            self._good, self._wanted = 0, _STEADY
        self._codec = codec
        self.hole()

    def keyframe(self, at_us: int | None) -> None:
        """A whole keyframe came, by the stream's timestamps or by capture times; None when it has no time."""
        last_us, self._last_us = self._last_us, at_us
        if at_us is None or last_us is None or not 0 < at_us - last_us <= _PLAUSIBLE_US:
            return
        distance_us = at_us - last_us
        self._recent.append(distance_us)
        self.longest_us = max(self._recent)
        if distance_us > self._interval_us * _SINGLE_LIMIT or self._too_long_on_average():
            self._too_rare()
            return
        self._good += 1
        if self._good >= self._wanted:
            self.enough, self.useless = True, None

    def hole(self) -> None:
        """Something is missing: the distance to the next keyframe says nothing."""
        self._last_us = None

    def cannot_serve(self, why: str) -> None:
        """Keyframes are no samples by themselves: `why` is the end of a sentence that begins with "its keyframes"."""
        self.enough, self.useless = False, why
        self._good, self._wanted = 0, _MOST_STEADY

    def _too_long_on_average(self) -> bool:
        several = len(self._recent) > _AVERAGED // 2  # fewer say little: timestamps jitter
        return several and sum(self._recent) > len(self._recent) * self._interval_us * _MEAN_LIMIT

    def _too_rare(self) -> None:
        if self.enough:
            self._wanted = min(2 * self._wanted, _MOST_STEADY)
        self.enough, self._good = False, 0
