"""When to ask for fewer samples, to shed and to hold daemons back: decided from times and counts alone, without I/O.

Invariants
1. A camera is asked for its own interval times a power of two, never for more than `longest_interval_s`.
2. The interval is doubled only while the camera is more than `degrade_after_s` behind, and again only when the present
   one has had time to show, and the line of waiting frames does not shrink under it.
3. It is halved only when the camera has been well below that for its patience. Patience doubles each time that a
   halving turns out wrong, so that at a constant speed of analysis changes become rare: an attempt in
   `PATIENCE_MOST_S`.
4. How long a frame has waited counts only as far as this receiver has run since, with a clock that did not jump ahead:
   a restart or a wrong clock sheds nothing.
5. A lane that is closed opens again only well below the bound that closed it.
"""

from dataclasses import dataclass

from crow_receiver.settings import OverloadSettings

WELL_BELOW = 0.25  # of degrade_after_s
EFFECT_S = 15.0  # and at least so many of the new intervals:
EFFECT_INTERVALS = 4
PATIENCE_FIRST_S = 60.0
PATIENCE_MOST_S = 900.0
JUMP_S = 5.0  # a wall clock that runs ahead by more than this in one look was set
REOPEN_BELOW = 0.9  # of the bound


@dataclass(slots=True)
class CameraPace:
    """How far apart one camera's samples are asked to be."""

    policy: OverloadSettings
    doublings: int = 0
    _looked_s: float | None = None  # the line is compared with what it was then
    _waiting_then: int = 0
    _low_since_s: float | None = None
    _patience_s: float = PATIENCE_FIRST_S
    _changed_s: float = 0.0
    _halved: bool = False  # the latest change was one

    def interval_ms(self, now_s: float, own_interval_ms: int, behind_s: float, waiting: int) -> int:
        """The interval to ask for, or 0 for the camera's own; `own_interval_ms` 0: a camera that cannot be asked.

        `behind_s` and `waiting` are of its frames that are not late; `now_s` is monotonic.
        """
        if not self.policy.degrade_after_s or not own_interval_ms:
            return 0
        if behind_s > self.policy.degrade_after_s:
            self._low_since_s = None
            self._consider_doubling(now_s, own_interval_ms, waiting)
        elif behind_s > self.policy.degrade_after_s * WELL_BELOW:
            self._low_since_s = None
        else:
            self._consider_halving(now_s, waiting)
        return own_interval_ms << self.doublings if self.doublings else 0

    def _consider_doubling(self, now_s: float, own_interval_ms: int, waiting: int) -> None:
        effect_s = max(EFFECT_S, EFFECT_INTERVALS * (own_interval_ms << self.doublings) / 1000)
        if self._looked_s is not None and now_s - self._looked_s < effect_s:
            return
        shrinks = self._looked_s is not None and waiting < self._waiting_then
        self._looked_s, self._waiting_then = now_s, waiting
        longest_ms = self.policy.longest_interval_s * 1000
        if shrinks or own_interval_ms << (self.doublings + 1) > longest_ms:
            return
        if self._halved:
            self._patience_s = min(PATIENCE_MOST_S, self._patience_s * 2)
        self._change(now_s, self.doublings + 1, halved=False)

    def _consider_halving(self, now_s: float, waiting: int) -> None:
        self._low_since_s = now_s if self._low_since_s is None else self._low_since_s
        low_s = now_s - self._low_since_s
        if self.doublings and low_s >= self._patience_s:
            self._looked_s, self._waiting_then = now_s, waiting
            self._low_since_s = now_s
            self._change(now_s, self.doublings - 1, halved=True)
        elif not self.doublings and low_s >= PATIENCE_MOST_S and now_s - self._changed_s >= PATIENCE_MOST_S:
            self._patience_s, self._halved, self._looked_s = PATIENCE_FIRST_S, False, None

    def _change(self, now_s: float, doublings: int, *, halved: bool) -> None:
        self.doublings, self._changed_s, self._halved = doublings, now_s, halved


class SteadyTime:
    """For how long the receiver has run with a clock that did not jump ahead."""

    def __init__(self, now_us: int, monotonic_s: float) -> None:
        self._since_s = monotonic_s
        self._last = (now_us, monotonic_s)

    def steady_s(self, now_us: int, monotonic_s: float) -> float:
        """Seconds up to now. Frames that came earlier may look older than they are, so that no wait is longer."""
        last_us, last_s = self._last
        if (now_us - last_us) / 1_000_000 - (monotonic_s - last_s) > JUMP_S:
            self._since_s = monotonic_s
        self._last = (now_us, monotonic_s)
        return monotonic_s - self._since_s


@dataclass(slots=True)
class Room:
    """Which lanes may send, by the number of frames that wait for analysis: the backlog stops at half of the bound."""

    max_waiting_frames: int  # 0: no bound
    live: bool = True
    backlog: bool = True

    def update(self, waiting: int) -> bool:
        """Whether anything changed."""
        before = (self.live, self.backlog)
        if self.max_waiting_frames:
            self.live = _open(self.live, waiting, self.max_waiting_frames)
            self.backlog = _open(self.backlog, waiting, self.max_waiting_frames / 2)
        return (self.live, self.backlog) != before


def _open(now: bool, waiting: int, bound: float) -> bool:
    return waiting < (bound if now else bound * REOPEN_BELOW)
