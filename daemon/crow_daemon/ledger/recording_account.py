"""The account of one recording, which may be interrupted at any time and is read again from a point before that.

Invariants
1. Expected are the ticks that it lasts.
2. Samples are booked in the order of their capture: none while the outcome of one before it is open, or while its frame
   is on its way to the spool. So up to `accounted_us` all is booked, and nothing behind it but frames in the spool.
3. A sample is told of as often as it is read, and counts once: what is booked, or in hand, is passed over.
4. It is read again from the last sample that was booked as sent, since the gate goes on from there nearly as if it had
   never been interrupted. What was not settled when it was interrupted is forgotten, and counts when it is read again.
5. What the gate said of a sample before one that is in the spool holds, whatever it says now: sent or held back.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crow_daemon.capture.outcome import SENT, Dropped, Missed, Outcome
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.account import CameraAccount, RecordingStanding, Standing
from crow_daemon.ledger.tally import Minutes
from crow_daemon.registry.camera import Camera, Recording
from crow_shared.clock import Moment

_SPOOLED: Final = "spooled"
_END: Final = "end"


@dataclass(slots=True)
class _InHand:
    """A sample that is not booked yet, with the ticks that were skipped before it; or the end (`_END`), which is none.

    `became` is None while the outcome is open, SENT while the frame is on its way to the spool.
    """

    skipped: int
    because: Missed
    became: str | None = None


class RecordingAccount(CameraAccount):
    """Of one recording."""

    def __init__(
        self,
        minutes: Minutes,
        lock: threading.RLock,
        camera: Camera,
        before: RecordingStanding | None,
        captures_us: Sequence[int],
    ) -> None:
        """Goes on from `before`, if that is of this recording; `captures_us` are of the camera's last frames."""
        super().__init__(minutes, lock, camera)
        assert isinstance(camera.source, Recording)
        self._recording = camera.source
        start_us = self._recording.start_us
        self._in_hand: dict[int, _InHand] = {}  # by capture time, in its order
        self._accounted_us: int | None = start_us - 1
        self._sent_us: int | None = None  # the last that is booked as sent
        self._spooled_us = start_us - 1  # up to here all that was sent is in the spool
        self._behind_us = 0  # where nothing else is known: the camera's last frame, be it of this recording or not
        self._in_spool = set(captures_us)  # of the frames since the last one that is booked, at least …
        self._known_from_us = start_us  # … and from here on all that are in the spool
        last_capture_us = max(captures_us, default=None)
        if before is not None and before.start_us == start_us:
            self._accounted_us, self._sent_us = before.accounted_us, before.sent_us
            self._spooled_us = before.spooled_us
            self._known_from_us = min(captures_us, default=before.spooled_us + 1)
        elif last_capture_us is not None and last_capture_us >= start_us:
            self._accounted_us, self._behind_us = None, last_capture_us

    def is_of(self, camera: Camera) -> bool:
        """Whether it is the same recording."""
        return camera.source == self._recording

    def change(self, camera: Camera, at: Moment) -> None:
        """It may be read at another rate from now on."""
        with self._lock:
            self._interval_us = camera.sample_interval_us

    def no_stream(self, because: Missed, at: Moment) -> None:
        """The file cannot be read, for this reason."""
        with self._lock:
            self._because = because

    def live(self, at: Moment) -> None:
        """The file is read from now on."""
        with self._lock:
            self._because = Missed.NO_PICTURE

    def damaged(self, at: Moment) -> None:
        """Pictures come damaged, until a sample comes."""
        with self._lock:
            self._because = Missed.DECODE_ERROR

    def sampled(self, capture_us: int, skipped_ticks: int, at: Moment) -> None:
        """A picture became a sample, so many ticks after the last one; its outcome follows."""
        with self._lock:
            if self._accounted_us is None:
                goes_on = capture_us > self._behind_us
                self._accounted_us = self._behind_us if goes_on else self._recording.start_us - 1
            self._last_us = capture_us
            if self._is_new(capture_us):
                self._in_hand[capture_us] = _InHand(skipped_ticks, self._because)
                self._note_alert(at)
            self._because = Missed.NO_PICTURE

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time. One whose capture was stopped meanwhile is read again."""
        with self._lock:
            sample = self._in_hand.get(capture_us)
            if sample is None or sample.became is not None:
                return
            if outcome is Dropped.STOPPED:
                del self._in_hand[capture_us]
                return
            self._settle(sample, _SPOOLED if capture_us in self._in_spool else outcome)

    def is_there(self, capture_us: int) -> bool:
        """Whether its sample was booked before, or its frame is in the spool or on its way."""
        with self._lock:
            if capture_us <= self._spooled_us:
                if (sample := self._in_hand.get(capture_us)) is not None:
                    was_sent = capture_us in self._in_spool or capture_us < self._known_from_us
                    self._settle(sample, _SPOOLED if was_sent else GateReason.NO_ACTIVITY)
                return True
            sample = self._in_hand.get(capture_us)
            return not self._is_new(capture_us) and (sample is None or sample.became is not None)

    def spooled(self, capture_us: int) -> None:
        """A frame of that time is in the spool, and booked as sent."""
        with self._lock:
            if (sample := self._in_hand.get(capture_us)) is not None:
                self._is_in_spool(capture_us, sample)
                self._book()

    def worker_lost(self, because: Missed, at: Moment) -> None:
        """Who was to say what became of the samples in hand is dead: they are read again."""
        with self._lock:
            self._forget(None)

    def finished(self, remaining_ticks: int) -> None:
        """It ended, so many ticks before it should have."""
        with self._lock:
            end_us = self._last_us + (remaining_ticks + 1) * self._interval_us
            if remaining_ticks and self._is_new(end_us):
                self._in_hand[end_us] = _InHand(remaining_ticks, self._because)
                self._settle(self._in_hand[end_us], _END)

    def stopped(self, at: Moment) -> None:
        """It goes on later."""

    def slept(self, seconds: float, at: Moment) -> None:
        """It can be read later."""

    def look(self, at: Moment) -> None:
        """Its time passes as it is read."""

    def end(self, at: Moment) -> None:
        """It was read to its end, or another one takes its place; frames on their way are booked as they arrive."""
        with self._lock:
            self._alert = None
            for capture_us, sample in self._in_hand.items():
                if sample.became == SENT:  # booked by its number when it has one
                    self._is_in_spool(capture_us, sample)
            self._forget(None)
            self._book()

    def close(self) -> None:
        """What is still in hand is read again."""
        with self._lock:
            self._forget(None)
            self._forget(SENT)

    def standing(self, spooled: int, at: Moment) -> Standing:
        """How far the recording is accounted for, given how many of the camera's frames are booked as sent."""
        with self._lock:
            if self._accounted_us is None:
                return Standing(spooled, self._interval_us, None)
            reached = (self._accounted_us, self._sent_us, self._spooled_us)
            recording = RecordingStanding(self._recording.start_us, *reached)
            return Standing(spooled, self._interval_us, None, recording)

    @property
    def is_booked(self) -> bool:
        """Whether all that came is booked."""
        return not self._in_hand

    @property
    def in_hand(self) -> int:
        """The samples without an outcome."""
        with self._lock:
            return sum(sample.became is None for sample in self._in_hand.values())

    @property
    def resume_after_us(self) -> int | None:
        """Behind it comes the tick of the last sample that was sent, else the beginning."""
        with self._lock:
            if self._accounted_us is None:
                return None
            return self._recording.start_us - 1 if self._sent_us is None else self._sent_us - self._interval_us

    def _is_new(self, capture_us: int) -> bool:
        is_behind = self._accounted_us is None or capture_us > self._accounted_us
        return is_behind and capture_us not in self._in_hand

    def _is_in_spool(self, capture_us: int, sample: _InHand) -> None:
        sample.became = _SPOOLED
        self._spooled_us = max(self._spooled_us, capture_us)
        self._in_spool.add(capture_us)

    def _settle(self, sample: _InHand, became: str) -> None:
        """Counts what became of it, and books what can be booked with it."""
        sample.became = became
        if sample.skipped:
            self._total.dropped[sample.because] += sample.skipped
        if became == SENT:
            self._total.sent += 1
        elif isinstance(became, GateReason):
            self._total.gated[became] += 1
        elif isinstance(became, Dropped):
            self._total.dropped[became] += 1
        self._book()

    def _book(self) -> None:
        """Books what is settled, as far as all before it is."""
        while self._in_hand:
            capture_us, sample = next(iter(self._in_hand.items()))
            if sample.became is None or sample.became == SENT:
                return
            del self._in_hand[capture_us]
            first_us = capture_us - sample.skipped * self._interval_us
            self._minutes.missed(self._camera_id, first_us, self._interval_us, sample.skipped, sample.because)
            if sample.became == _SPOOLED:
                self._sent_us = capture_us
                self._in_spool.discard(capture_us)
            elif isinstance(sample.became, GateReason | Dropped):
                self._minutes.held(self._camera_id, capture_us, sample.became)
            self._accounted_us = capture_us

    def _forget(self, became: str | None) -> None:
        """Forgets what has come so far and no farther: it counts when it is read again."""
        for capture_us, sample in list(self._in_hand.items()):
            if sample.became == became:
                del self._in_hand[capture_us]

    def _camera_time_us(self, at: Moment) -> int:
        return self._last_us or self._recording.start_us
