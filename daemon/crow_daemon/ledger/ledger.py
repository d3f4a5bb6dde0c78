"""The sample ledger of one daemon: the book, and ledger.db that it is written to once a second.

Invariants
1. What is written agrees with the spool at one moment: the frames booked as sent are the numbers that it had given out.
2. After a crash the book goes on from there: numbers given out since are frames that were sent, and every other sample
   that was due since then is one of `daemon_down`, of the cameras that are switched on.
3. A disk that refuses stops nothing: what was not written is kept for the next time. A file that is damaged when the
   daemon starts is set aside, and what it said is not known any more.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from crow_daemon.capture.outcome import Missed
from crow_daemon.ledger.account import Standing
from crow_daemon.ledger.book import LAST_CAPTURES, Book
from crow_daemon.ledger.database import KEEP_US, LedgerDatabase
from crow_daemon.ledger.tally import LedgerMark, Minutes, WrittenMinute
from crow_daemon.registry.camera import Camera
from crow_daemon.spool.accounts import CameraMark
from crow_shared.clock import Clock, Moment
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

LET_GO_S = 3600.0
SLEPT_S = 2.0  # the two clocks that tell a sleep are read one after the other; less is no sleep


class Numbers(Protocol):
    """Who gives out the numbers of frames."""

    def totals(self) -> list[CameraMark]:
        """Per camera, how many numbers were given out, ever."""
        ...

    def last_captures_us(self, camera_id: str, frames: int) -> list[int]:
        """The capture times of the last frames that got a number, oldest first, as far as they can be told."""
        ...


def seconds_asleep() -> float:
    """For how long this machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _opened(path: Path, clock: Clock) -> LedgerDatabase:
    try:
        database = LedgerDatabase(path)
        database.check()
    except CrowError as error:
        if error.kind is not Kind.CORRUPT:
            raise
        aside = path.with_name(f"{path.name}.damaged-{clock.now_us() // 1_000_000}")
        log.error(
            "the sample ledger is damaged; it is set aside, and begun anew", error=error.message, aside=str(aside)
        )
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(aside)
        return LedgerDatabase(path)
    return database


class SampleLedger:
    """Thread-safe."""

    def __init__(self, path: Path, clock: Clock, asleep_s: Callable[[], float] = seconds_asleep) -> None:
        """Opens ledger.db. Raises CrowError(UNAVAILABLE) when it cannot be used."""
        self.book = Book()
        self.trouble: str | None = None  # why the disk does not take it
        self._database = _opened(path, clock)
        self._clock = clock
        self._asleep_s = asleep_s
        self._slept_s = asleep_s()
        self._let_go_s = float("-inf")

    def begin(self, numbers: Numbers, cameras: Sequence[Camera]) -> None:
        """Goes on from what was written last; `cameras` are switched on now.

        Before any frame is offered to the spool. Raises CrowError when it cannot be read.
        """
        on, since = {camera.id for camera in cameras}, Minutes()
        before, marks = self._database.standings(), {mark.camera_id: mark for mark in numbers.totals()}
        standings, recordings = before or {}, {}
        last_captures_us: dict[str, list[int]] = {}
        for mark in marks.values():
            standing = standings.get(mark.camera_id, Standing(0, 0, None))
            captures_us = [] if before is None else self._captures_since(numbers, mark, standing)
            for capture_us in captures_us:
                since.sent(mark.camera_id, capture_us)
            if (read := standing.recording) is not None:
                recordings[mark.camera_id] = replace(read, spooled_us=max([read.spooled_us, *captures_us]))
                last_captures_us[mark.camera_id] = numbers.last_captures_us(mark.camera_id, LAST_CAPTURES)
        for camera_id, standing in standings.items():
            if standing.recording is not None:
                recordings.setdefault(camera_id, standing.recording)
            if camera_id in on and standing.due_us is not None:
                given_out = marks[camera_id].last_seq if camera_id in marks else 0
                credited = max(0, given_out - standing.spooled)
                self._book_down_time(camera_id, standing.due_us, standing.interval_us, credited, since)
        self.book.begin(list(marks.values()), recordings, last_captures_us, since)
        self.follow(cameras)
        self.flush()

    def follow(self, cameras: Iterable[Camera]) -> None:
        """These cameras, and no others, are expected to give samples from now on."""
        self.book.follow(cameras, Moment.now(self._clock))

    def flush(self) -> None:
        """Writes down what was counted. A disk that refuses is logged once; nothing is lost by it for now."""
        at = Moment.now(self._clock)
        slept_s = self._asleep_s()
        if slept_s - self._slept_s > SLEPT_S:
            self.book.slept(slept_s - self._slept_s, at)
        self._slept_s = slept_s
        taken = self.book.take(at)
        try:
            self._database.write(taken, at.wall_us)
        except CrowError as error:
            self.book.put_back(taken)
            if error.message != self.trouble:
                log.error("the sample ledger cannot be written; it is kept in memory", error=error.message)
            self.trouble = error.message
            return
        self.book.written()
        self.trouble = None
        if at.monotonic_s - self._let_go_s > LET_GO_S:
            self._let_go_s = at.monotonic_s
            self._let_go_old(at.wall_us)

    def untold(self, limit: int) -> list[WrittenMinute]:
        """Minutes that the receiver does not have as they are now, those that changed first. Raises CrowError."""
        return self._database.untold(limit)

    def status(self) -> dict[str, int | str | None]:
        """In plain JSON values; docs/OPERATIONS.md has the fields."""
        unwritten = self.book.unwritten_minutes()  # first: what is written meanwhile is found on disk
        untold, trouble = None, self.trouble
        try:
            untold = self._database.untold_minutes()
        except CrowError as error:
            trouble = error.message
        return {"unwritten_minutes": unwritten, "untold_minutes": untold, "trouble": trouble}

    def told(self, marks: Iterable[LedgerMark]) -> None:
        """The receiver has these. Raises CrowError."""
        self._database.told(marks)

    def finish(self) -> None:
        """Cameras and spool have ended: the last word."""
        self.book.close()
        self.flush()

    def close(self) -> None:
        """Gives the file back."""
        self._database.close()

    def _captures_since(self, numbers: Numbers, mark: CameraMark, before: Standing) -> list[int]:
        """The capture times of frames that got their numbers after the last writing."""
        frames = mark.last_seq - before.spooled
        if frames <= 0:  # less: the spool was wiped, or restored from a copy
            return []
        found = numbers.last_captures_us(mark.camera_id, frames)
        start_us = self._clock.now_us() if before.due_us is None else before.due_us
        return [start_us + number * before.interval_us for number in range(frames - len(found))] + found

    def _book_down_time(self, camera_id: str, due_us: int, interval_us: int, credited: int, since: Minutes) -> None:
        """Books what was due since then, less the frames that were found in the spool."""
        due = max(0, -(-(self._clock.now_us() - due_us) // interval_us) - credited)
        samples = min(due, KEEP_US // interval_us)
        if samples < due:
            log.warning("the daemon was away for longer than its ledger tells", camera=camera_id)
        first_us = due_us + (credited + due - samples) * interval_us
        since.missed(camera_id, first_us, interval_us, samples, Missed.DAEMON_DOWN)

    def _let_go_old(self, now_us: int) -> None:
        try:
            self._database.let_go_old(now_us)
        except CrowError as error:
            log.warning("old minutes of the sample ledger cannot be let go", error=error.message)
