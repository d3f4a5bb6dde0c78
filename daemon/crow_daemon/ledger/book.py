"""Where every sample of all cameras went, until it is written down.

Invariants
1. expected == sent + gated + dropped, for each minute and over all of them: expected is never counted by itself.
2. A frame is booked as sent when the spool has given it its number, in one step with the count of these numbers: what
   is taken from here at any time agrees with the spool as it was then.
3. Memory is bounded: minutes that cannot be written down for long go, the oldest first. They are not known then.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from crow_daemon.ledger.account import CameraAccount, RecordingStanding, Standing
from crow_daemon.ledger.live_account import LiveAccount
from crow_daemon.ledger.recording_account import RecordingAccount
from crow_daemon.ledger.tally import Minutes
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.spool.accounts import CameraMark
from crow_shared.clock import Moment
from crow_shared.frame import Frame

log = structlog.get_logger()

LAST_CAPTURES = 2000  # frames of a recording, more than a second of them: the ledger is written each second
MAX_UNWRITTEN_MINUTES = 50_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What was counted since the last taking, and how far each camera was accounted for then, by id."""

    minutes: Minutes
    standings: Mapping[str, Standing]


class Book:
    """The accounts of one daemon. Thread-safe."""

    def __init__(self) -> None:
        """Empty."""
        self._lock = threading.RLock()  # guards the accounts' state, too
        self._minutes = Minutes()
        self._being_written: set[tuple[str, int]] = set()  # minutes that were taken, and may come back
        self._accounts: dict[str, CameraAccount] = {}
        self._spooled: dict[str, int] = {}
        self._recordings: dict[str, RecordingStanding] = {}  # of cameras that are not followed now
        self._captures_us: dict[
            str, list[int]
        ] = {}  # of the last frames in the spool, by camera; the last one of live ones

    def follow(self, cameras: Iterable[Camera], at: Moment) -> None:
        """These cameras, and no others, are expected to give samples from now on."""
        with self._lock:
            wanted = {camera.id: camera for camera in cameras}
            for camera_id in self._accounts.keys() - wanted.keys():
                self._end(camera_id, at)
            for camera in wanted.values():
                self.account(camera, at).change(camera, at)

    def account(self, camera: Camera, at: Moment) -> CameraAccount:
        """The account of a camera, or of the recording that it reads; one that is not followed yet is from now on."""
        with self._lock:
            account = self._accounts.get(camera.id)
            if account is None or not account.is_of(camera):
                if account is not None:
                    self._end(camera.id, at)
                account = self._accounts[camera.id] = self._opened(camera, at)
            return account

    def spooled(self, frames: Sequence[Frame]) -> None:
        """The spool has given these frames their numbers."""
        with self._lock:
            for frame in frames:
                self.credit(frame.camera_id, [frame.capture_us])
                account = self._accounts.get(frame.camera_id)
                before = self._captures_us.get(frame.camera_id, []) if isinstance(account, RecordingAccount) else []
                self._captures_us[frame.camera_id] = [*before[1 - LAST_CAPTURES :], frame.capture_us]
                if account is not None:
                    account.spooled(frame.capture_us)

    def credit(self, camera_id: str, captures_us: Iterable[int]) -> None:
        """Frames of these capture times have numbers of the spool."""
        with self._lock:
            for capture_us in captures_us:
                self._minutes.sent(camera_id, capture_us)
                self._spooled[camera_id] = self._spooled.get(camera_id, 0) + 1

    def begin(
        self,
        marks: Sequence[CameraMark],
        recordings: Mapping[str, RecordingStanding],
        captures_us: Mapping[str, Sequence[int]],
        missed: Minutes,
    ) -> None:
        """Goes on from what was booked before: numbers of the spool, recordings, and what is missed since.

        `captures_us` are of the last frames in the spool of each camera that reads a recording, oldest first.
        """
        with self._lock:
            self._recordings = dict(recordings)
            for mark in marks:
                self._spooled[mark.camera_id] = mark.last_seq
                last_us = [] if mark.last_capture_us is None else [mark.last_capture_us]
                self._captures_us[mark.camera_id] = list(captures_us.get(mark.camera_id) or last_us)
            self._minutes.add(missed)

    def slept(self, seconds: float, at: Moment) -> None:
        """The machine slept for so long until just now, while the monotonic clock stood still."""
        with self._lock:
            for account in self._accounts.values():
                account.slept(seconds, at)

    def close(self) -> None:
        """The daemon ends, after its cameras and its spool: what is still in hand is lost."""
        with self._lock:
            for account in self._accounts.values():
                account.close()

    def take(self, at: Moment) -> Taken:
        """What was counted since the last taking. It is the caller's now: `put_back` when it cannot be written down."""
        with self._lock:
            for account in self._accounts.values():
                account.look(at)
            taken = Minutes()
            taken.tallies, self._minutes.tallies = self._minutes.tallies, {}
            self._being_written = set(taken.tallies)
            standings = {
                camera_id: Standing(numbers, 0, None, self._recordings.get(camera_id))
                for camera_id, numbers in self._spooled.items()
            }
            for camera_id, account in self._accounts.items():
                standings[camera_id] = account.standing(self._spooled.get(camera_id, 0), at)
            return Taken(taken, standings)

    def written(self) -> None:
        """What was taken last is on disk."""
        with self._lock:
            self._being_written = set()

    def is_written(self, camera_id: str) -> bool:
        """Whether all that became of the camera's samples is on disk, with the frames that were sent."""
        with self._lock:
            account = self._accounts.get(camera_id)
            is_booked = account is None or account.is_booked
            return is_booked and not any(camera == camera_id for camera, _ in self._unwritten())

    def unwritten_minutes(self) -> int:
        """How many minutes of all cameras have counts that are not on disk."""
        with self._lock:
            return len(self._unwritten())

    def put_back(self, taken: Taken) -> None:
        """What could not be written down is kept for the next taking."""
        with self._lock:
            self._being_written = set()
            self._minutes.add(taken.minutes)
            forgotten = self._minutes.forget_oldest(MAX_UNWRITTEN_MINUTES)
        if forgotten:
            log.error("the disk takes no sample ledger: the oldest minutes of it are not known", minutes=forgotten)

    def _unwritten(self) -> set[tuple[str, int]]:
        return self._being_written | self._minutes.tallies.keys()

    def _end(self, camera_id: str, at: Moment) -> None:
        account = self._accounts.pop(camera_id)
        account.end(at)
        if (read := account.standing(0, at).recording) is not None:
            self._recordings[camera_id] = read

    def _opened(self, camera: Camera, at: Moment) -> CameraAccount:
        if not isinstance(camera.source, Recording):
            return LiveAccount(self._minutes, self._lock, camera, at)
        before, captures_us = self._recordings.get(camera.id), self._captures_us.get(camera.id, [])
        return RecordingAccount(self._minutes, self._lock, camera, before, captures_us)
