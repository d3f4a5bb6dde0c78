"""What one camera's capture says about its samples, from when the camera is switched on.

Invariants of every account
1. A sample has one outcome, in the minute of its capture time.
2. A sample whose outcome is open, or whose frame is on its way to the spool, is in no minute.
"""

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

from crow_daemon.capture.outcome import Missed, Outcome
from crow_daemon.ledger.tally import Counts, Minutes, Tally
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Moment


@dataclass(frozen=True, slots=True)
class RecordingStanding:
    """How far a recording is accounted for, in capture times; the recording is told by when it began.

    All of its samples up to `accounted_us` are booked; `sent_us` is the last of them that was sent, None: none was.
    Up to `spooled_us` every frame that was sent is in the spool.
    """

    start_us: int
    accounted_us: int
    sent_us: int | None
    spooled_us: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a camera is accounted for.

    `spooled` are the numbers of the spool that are booked as sent, ever. `due_us` is when, by our wall clock, the first
    sample is due that is not booked; None where none is: a recording, or a camera that is not followed.
    """

    spooled: int
    interval_us: int
    due_us: int | None
    recording: RecordingStanding | None = None


class CameraAccount(ABC):
    """It outlives changes of the camera's settings, and its workers. Thread-safe; made by the book."""

    def __init__(self, minutes: Minutes, lock: threading.RLock, camera: Camera) -> None:
        """The camera was switched on now. `lock` guards `minutes`, too."""
        self._minutes = minutes
        self._lock = lock
        self._camera_id = camera.id
        self._interval_us = camera.sample_interval_us
        self._because = Missed.CONNECTING  # why samples that are due do not come
        self._last_us = 0  # capture time of the last sample
        self._alert: str | None = None
        self._total = Tally()

    @abstractmethod
    def is_of(self, camera: Camera) -> bool:
        """Whether it goes on for this camera, whose settings may have changed."""

    @abstractmethod
    def change(self, camera: Camera, at: Moment) -> None:
        """Its settings may be others from now on."""

    @abstractmethod
    def no_stream(self, because: Missed, at: Moment) -> None:
        """There is no stream, for this reason, since the last sample came."""

    @abstractmethod
    def live(self, at: Moment) -> None:
        """A stream runs from now on: the next sample settles what is missing before it, as it may be on its way."""

    @abstractmethod
    def damaged(self, at: Moment) -> None:
        """Pictures come damaged, until a sample comes."""

    @abstractmethod
    def sampled(self, capture_us: int, skipped_ticks: int, at: Moment) -> None:
        """A picture became a sample; its outcome follows. A recording says how many ticks were skipped before it."""

    @property
    @abstractmethod
    def in_hand(self) -> int:
        """The samples without an outcome."""

    @abstractmethod
    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time. Telling it again changes nothing."""

    @abstractmethod
    def is_there(self, capture_us: int) -> bool:
        """Whether the sample of that time needs no frame, as it was settled before its capture was interrupted."""

    @abstractmethod
    def spooled(self, capture_us: int) -> None:
        """A frame of that time is in the spool, and booked as sent."""

    @abstractmethod
    def worker_lost(self, because: Missed, at: Moment) -> None:
        """Who was to say what became of the samples in hand is dead."""

    @abstractmethod
    def finished(self, remaining_ticks: int) -> None:
        """A recording ended, so many ticks before it should have."""

    @abstractmethod
    def stopped(self, at: Moment) -> None:
        """Its capture was stopped: by the daemon's end, or to begin anew."""

    @abstractmethod
    def slept(self, seconds: float, at: Moment) -> None:
        """The machine slept for so long until just now, while the monotonic clock stood still."""

    @abstractmethod
    def look(self, at: Moment) -> None:
        """Time has passed."""

    @abstractmethod
    def end(self, at: Moment) -> None:
        """The camera was removed or switched off: what is due later is not expected."""

    @abstractmethod
    def close(self) -> None:
        """The daemon ends, after its cameras and its spool: what is still in hand is lost."""

    @abstractmethod
    def standing(self, spooled: int, at: Moment) -> Standing:
        """How far the camera is accounted for, given how many of its frames are booked as sent."""

    @property
    @abstractmethod
    def is_booked(self) -> bool:
        """Whether there is no sample whose outcome or frame is on its way."""

    @property
    def resume_after_us(self) -> int | None:
        """The capture time behind which an interrupted recording goes on; None: it has not been begun."""
        return None

    def alert(self, word: str | None, at: Moment) -> None:
        """Something is wrong with the picture until something else is, or nothing (None)."""
        with self._lock:
            self._alert = word
            self._note_alert(at)

    def counts(self) -> Counts:
        """What was counted since the daemon began to follow the camera; frames on their way to the spool are sent."""
        with self._lock:
            return self._total.counts()

    @abstractmethod
    def _camera_time_us(self, at: Moment) -> int:
        """What the camera's time is then."""

    def _note_alert(self, at: Moment) -> None:
        if self._alert is not None:
            self._minutes.at(self._camera_id, self._camera_time_us(at)).alerts.add(self._alert)
