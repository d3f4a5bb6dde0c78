"""The account of a live camera, whose samples are due whether they come or not.

Invariants
1. Its expected samples are the time for which it is followed times its rate, by the monotonic clock, give or take one
   for each beginning.
2. A sample that never came is booked in the minute in which it was due: by our wall clock, and as far ahead of that as
   the camera's time was at its last sample.
3. One that comes up to `LATE_S` after it was given up takes its place: what is booked as missed is taken back.
4. A sample in hand ends as sent when the spool has it, else with its worker or with the daemon at the latest.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass

from crow_daemon.capture.outcome import SENT, Dropped, Missed, Outcome
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.account import CameraAccount, Standing
from crow_daemon.ledger.pace import Pace
from crow_daemon.ledger.tally import Minutes
from crow_daemon.registry.camera import Camera, Recording
from crow_shared.clock import Moment

LATE_S = 60.0  # or three intervals, where these are longer
_LATE_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """A sample that is booked as missed: when it was due, by the monotonic clock and by the camera's, and why."""

    due_s: float
    due_us: int
    reason: Missed


class LiveAccount(CameraAccount):
    """Of one camera."""

    def __init__(self, minutes: Minutes, lock: threading.RLock, camera: Camera, at: Moment) -> None:
        """The camera was switched on now. `lock` guards `minutes`, too."""
        super().__init__(minutes, lock, camera)
        self._pace: Pace | None = _pace(camera, at)  # None: it is not followed any more
        self._is_live = False
        self._ahead_us = 0  # of our wall clock, the camera's time when the last sample came that was not late
        self._given_up: deque[_GivenUp] = deque()  # that may come late still, oldest first
        self._open: Counter[int] = Counter()  # samples without an outcome, by capture time
        self._taken: Counter[int] = Counter()  # frames on their way to the spool, by capture time

    def is_of(self, camera: Camera) -> bool:
        """Whether it is a live one still."""
        return not isinstance(camera.source, Recording)

    def change(self, camera: Camera, at: Moment) -> None:
        """Its settings may be others from now on."""
        with self._lock:
            if camera.sample_interval_us != self._interval_us:
                self._settle(at)
                self._given_up.clear()
                self._interval_us = camera.sample_interval_us
                self._pace = _pace(camera, at)

    def no_stream(self, because: Missed, at: Moment) -> None:
        """There is no stream, for this reason, since the last sample came."""
        with self._lock:
            self._because, self._is_live = because, False
            self._settle(at)

    def live(self, at: Moment) -> None:
        """A stream runs from now on: the next sample settles what is missing before it, as it may be on its way."""
        with self._lock:
            self._settle(at)
            self._because, self._is_live = Missed.NO_PICTURE, True

    def damaged(self, at: Moment) -> None:
        """Pictures come damaged, until a sample comes."""
        with self._lock:
            if self._because is not Missed.DECODE_ERROR:
                self._settle(at)
                self._because = Missed.DECODE_ERROR

    def sampled(self, capture_us: int, skipped_ticks: int, at: Moment) -> None:
        """A picture became a sample; its outcome follows. What is missing before it, the pace says."""
        with self._lock:
            if self._pace is not None:
                self._live_sample(self._pace, capture_us, at)
            self._because = Missed.NO_PICTURE
            self._last_us = capture_us
            self._open[capture_us] += 1

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time. Telling it again changes nothing."""
        with self._lock:
            if not _take_one(self._open, capture_us):
                return
            if outcome == SENT:
                self._taken[capture_us] += 1
                self._total.sent += 1
            else:
                self._held(capture_us, outcome)

    def is_there(self, capture_us: int) -> bool:
        """No: nothing live is seen twice."""
        return False

    def spooled(self, capture_us: int) -> None:
        """A frame of that time is in the spool, and booked as sent."""
        with self._lock:
            if not _take_one(self._taken, capture_us) and _take_one(self._open, capture_us):
                self._total.sent += 1  # the word of its outcome is late, or was lost with a worker

    def worker_lost(self, because: Missed, at: Moment) -> None:
        """Who was to say what became of the samples in hand is dead."""
        with self._lock:
            self._end_open(Dropped(because.value))
            self.no_stream(because, at)

    def finished(self, remaining_ticks: int) -> None:
        """A live camera has no end."""

    def stopped(self, at: Moment) -> None:
        """Its capture was stopped: by the daemon's end, or to begin anew."""
        with self._lock:
            self._settle(at)
            self._is_live = True  # nothing is missed by looking: what follows has its own reason

    def slept(self, seconds: float, at: Moment) -> None:
        """The machine slept for so long until just now, while the monotonic clock stood still."""
        with self._lock:
            if self._pace is not None:
                samples = int(seconds * 1e6 / self._interval_us)
                first_us = at.wall_us - samples * self._interval_us + self._ahead_us
                self._miss(samples, first_us, Missed.DAEMON_DOWN)

    def look(self, at: Moment) -> None:
        """Time has passed."""
        with self._lock:
            if not self._is_live:
                self._settle(at)
            self._note_alert(at)

    def end(self, at: Moment) -> None:
        """The camera was removed or switched off: what is due later is not expected."""
        with self._lock:
            self._settle(at)
            self._given_up.clear()
            self._pace = None
            self._alert = None

    def close(self) -> None:
        """The daemon ends, after its cameras and its spool: what is still in hand is lost."""
        with self._lock:
            self._end_open(Dropped.STOPPED)
            for capture_us in self._taken.elements():
                self._total.sent -= 1
                self._held(capture_us, Dropped.SPOOL_UNAVAILABLE)
            self._taken.clear()

    def standing(self, spooled: int, at: Moment) -> Standing:
        """How far the camera is accounted for, given how many of its frames are booked as sent."""
        with self._lock:
            if self._pace is None:
                return Standing(spooled, self._interval_us, None)
            in_hand = self._open.total() + self._taken.total()
            due_us = at.wall_at_us(self._pace.next_due_s) - in_hand * self._interval_us
            return Standing(spooled, self._interval_us, due_us)

    @property
    def is_booked(self) -> bool:
        """Whether all that came is booked."""
        return not (self._open or self._taken)

    @property
    def in_hand(self) -> int:
        """The samples without an outcome."""
        with self._lock:
            return self._open.total()

    def _live_sample(self, pace: Pace, capture_us: int, at: Moment) -> None:
        self._forget_given_up(at)
        due_s, came_s = pace.next_due_s, self._came_s(pace, capture_us, at)
        held_up = came_s != at.monotonic_s
        late = self._nearest_given_up(capture_us)
        may_be_late = late is not None and (held_up or abs(late.due_us - capture_us) < self._interval_us)
        missing = pace.sample(came_s, may_be_late=may_be_late, held_up=held_up)
        if late is not None and missing < 0:
            self._take_back(late)
        else:
            self._give_up(due_s, missing, at)
        if not held_up:
            self._ahead_us = capture_us - at.wall_us

    def _came_s(self, pace: Pace, capture_us: int, at: Moment) -> float:
        """When a sample came; one that was held up on its way counts as if it had not been.

        Where no sample is missing in that place, its clock was set back, and it is not late.
        """
        late_us = at.wall_us + self._ahead_us - capture_us
        late_s = late_us / 1_000_000
        if not self._last_us or not self._interval_us / 4 < late_us <= self._late_samples() * self._interval_us:
            return at.monotonic_s
        is_set_back = pace.is_settled(at.monotonic_s - late_s) and not self._given_up
        return at.monotonic_s if is_set_back else at.monotonic_s - late_s

    def _settle(self, at: Moment) -> None:
        if self._pace is not None:
            due_s = self._pace.next_due_s
            self._give_up(due_s, self._pace.overdue(at.monotonic_s), at)

    def _give_up(self, due_s: float, samples: int, at: Moment) -> None:
        """Books what was due since `due_s` as missed, for now."""
        due_us = at.wall_at_us(due_s) + self._ahead_us
        self._miss(samples, due_us, self._because)
        interval_s = self._interval_us / 1_000_000
        for number in range(max(0, samples - self._late_samples()), samples):
            due = _GivenUp(due_s + number * interval_s, due_us + number * self._interval_us, self._because)
            self._given_up.append(due)
        self._forget_given_up(at)

    def _late_samples(self) -> int:
        """How many samples in a row may come late."""
        return max(_LATE_INTERVALS, int(LATE_S * 1_000_000) // self._interval_us)

    def _forget_given_up(self, at: Moment) -> None:
        late_s = self._late_samples() * self._interval_us / 1_000_000
        while self._given_up and self._given_up[0].due_s < at.monotonic_s - late_s:
            self._given_up.popleft()

    def _nearest_given_up(self, capture_us: int) -> _GivenUp | None:
        return min(self._given_up, key=lambda one: abs(one.due_us - capture_us), default=None)

    def _take_back(self, late: _GivenUp) -> None:
        """A sample has come late: what was booked in its place is not missed after all."""
        self._given_up.remove(late)
        self._total.dropped[late.reason] -= 1
        self._minutes.came_late(self._camera_id, late.due_us, late.reason)

    def _miss(self, samples: int, first_us: int, because: Missed) -> None:
        if samples > 0:
            self._total.dropped[because] += samples
            self._minutes.missed(self._camera_id, first_us, self._interval_us, samples, because)

    def _held(self, capture_us: int, reason: GateReason | Dropped) -> None:
        (self._total.gated if isinstance(reason, GateReason) else self._total.dropped)[reason] += 1
        self._minutes.held(self._camera_id, capture_us, reason)

    def _end_open(self, reason: Dropped) -> None:
        for capture_us in self._open.elements():
            self._held(capture_us, reason)
        self._open.clear()

    def _camera_time_us(self, at: Moment) -> int:
        return at.wall_us + self._ahead_us


def _pace(camera: Camera, at: Moment) -> Pace:
    return Pace(camera.sample_interval_us / 1_000_000, at.monotonic_s)


def _take_one(counter: Counter[int], key: int) -> bool:
    if key not in counter:
        return False
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
    return True
