"""When it is enough to decode keyframes. Pure: no clock, no I/O.

Decoding a keyframe a second costs about a quarter of decoding the whole stream, so where keyframes come at least once
per sample interval, nothing else is decoded.

Invariants
1. Only keyframes are decoded from the moment that `_STEADY_KEYFRAMES` distances in a row were within the interval.
2. The first time that this costs a sample (a keyframe too late, a tick without one, or one that decodes to nothing, as
   with intra-refresh), it ends for the rest of the connection, and full decoding begins with the next keyframe.
"""

from enum import Enum, auto

_STEADY_KEYFRAMES = 3


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
        self._steady = 0
        self._alone = False
        self._tried = False
        self._waiting = False  # for a keyframe to begin full decoding with

    @property
    def keyframes_alone(self) -> bool:
        """Whether nothing but keyframes is decoded now."""
        return self._alone

    def decide(self, *, is_key: bool, stream_us: int | None) -> Decode:
        """What to do with the next packet; `stream_us` is its timestamp, None when it has none."""
        if is_key:
            self._keyframe(stream_us)
            return Decode.ALONE if self._alone else Decode.IN_ORDER
        late = stream_us is not None and self._last_key_us is not None
        if self._alone and late and stream_us - self._last_key_us > self._interval_us:  # type: ignore[operator]
            self._give_up()
        return Decode.SKIP if self._alone or self._waiting else Decode.IN_ORDER

    def decoded_nothing(self) -> None:
        """A keyframe that was decoded by itself gave no picture."""
        self._give_up()

    def _keyframe(self, stream_us: int | None) -> None:
        self._waiting = False
        last_us, self._last_key_us = self._last_key_us, stream_us
        if stream_us is None or last_us is None:
            return
        if not 0 < stream_us - last_us <= self._interval_us:
            self._steady = 0
            if self._alone:
                self._give_up()
                self._waiting = False
            return
        self._steady += 1
        if self._steady >= _STEADY_KEYFRAMES and not self._tried:
            self._alone = self._tried = True

    def _give_up(self) -> None:
        self._alone = False
        self._waiting = True
