"""When it is enough to decode keyframes. Pure: no clock, no I/O.

Decoding a keyframe a second costs about a quarter of decoding the whole stream, so where keyframes come about once per
sample interval, nothing else is decoded.

Invariants
1. Only keyframes are decoded from the moment that `_STEADY_KEYFRAMES` distances in a row were within the interval, give
   or take the jitter of a camera's timestamps.
2. The first time that this costs a sample (a keyframe too late, a tick without one, or one that decodes to nothing, as
   with intra-refresh), it ends for the rest of the connection. Full decoding begins with a keyframe.
"""

from enum import Enum, auto

_STEADY_KEYFRAMES = 3
_JITTER = 1.1  # a distance may be so many intervals


class Decode(Enum):
    """What to do with a packet."""

    IN_ORDER = auto()  # decode it as part of the stream
    ALONE = auto()  # decode it by itself: a keyframe that nothing else has to follow
    SKIP = auto()


class KeyframePolicy:
    """Decides for one connection."""

    def __init__(self, interval_us: int) -> None:
        """Samples are due every `interval_us` microseconds."""
        self._interval_us = interval_us
        self._last_key_us: int | None = None
        self._last_tick: int | None = None
        self._steady = 0
        self._tried = False
        self._waiting = False  # for a keyframe to begin full decoding with
        self.keyframes_alone = False
        self.longest_us: int | None = None  # the longest distance between two keyframes so far

    def decide(self, *, is_key: bool, stream_us: int | None) -> Decode:
        """What to do with the next packet; `stream_us` is its timestamp, None when it has none."""
        if is_key:
            self._keyframe(stream_us)
            self._waiting = False
            return Decode.ALONE if self.keyframes_alone else Decode.IN_ORDER
        if self.keyframes_alone and self._is_late(stream_us):
            self.give_up()
        return Decode.SKIP if self.keyframes_alone or self._waiting else Decode.IN_ORDER

    def decoded(self, capture_us: int) -> None:
        """A picture of that time was decoded; a tick of the sampler without one ends keyframes alone."""
        tick, last_tick = capture_us // self._interval_us, self._last_tick
        self._last_tick = tick
        if self.keyframes_alone and last_tick is not None and tick > last_tick + 1:
            self.give_up()

    def give_up(self) -> None:
        """Keyframes alone are not enough."""
        self._waiting = self.keyframes_alone
        self.keyframes_alone = False

    def _keyframe(self, stream_us: int | None) -> None:
        last_us, self._last_key_us = self._last_key_us, stream_us
        if stream_us is None or last_us is None:
            return
        distance_us = stream_us - last_us
        self.longest_us = max(self.longest_us or 0, distance_us)
        if not 0 < distance_us <= self._interval_us * _JITTER:
            self._steady = 0
            self.give_up()
            return
        self._steady += 1
        if self._steady >= _STEADY_KEYFRAMES and not self._tried:
            self.keyframes_alone = self._tried = True

    def _is_late(self, stream_us: int | None) -> bool:
        if stream_us is None or self._last_key_us is None:
            return False
        return stream_us - self._last_key_us > self._interval_us * _JITTER
