"""Has the kept frames of a run described, beside a receiver that may be running.

Invariants
1. A stretch's frames are described one after the other, by their capture times, as if its camera were alone: engines
   may compare a camera's frames. As many stretches are under way as the engine has slots.
2. Each answer is on disk before the next frame of its stretch is begun. Whatever ends the run, going on begins with the
   frames that have no answer.
3. A frame fails with its reason when the engine says so, or after `TRIES` tries at which it killed a worker, outlasted
   it, or made a server fail. An engine that cannot serve ends the run; that is no frame's fault.
4. Nothing is read or written for longer than a statement or a short transaction: the receiver goes on beside it.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crow_receiver.store import reanalyses
from crow_receiver.store.frames import PendingFrame
from crow_receiver.store.sessions import SessionRow
from crow_receiver.vision.asking import request_for, said
from crow_receiver.vision.port import FRAME_AT_FAULT, Previous, Vision
from crow_receiver.vision.schedule import RETRY_FIRST_S, TRIES
from crow_receiver.vision.schema import Analysis
from crow_shared.database import transaction, translated_errors
from crow_shared.errors import CrowError
from crow_shared.segments import read_segment

PAGE_FRAMES = 64
STRETCH_US = 300_000_000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A session's frames between two capture times in µs since the Unix epoch, the second excluded."""

    session_id: str
    from_us: int
    to_us: int


def stretches(session: SessionRow, from_us: int, to_us: int, *, split: bool) -> list[Stretch]:
    """The session's stretches between two capture times: one, or with `split` one for each five minutes."""
    first_us, end_us = max(from_us, session.first_capture_us), min(to_us, session.last_capture_us + 1)
    length_us = STRETCH_US if split else max(1, end_us - first_us)
    return [
        Stretch(session.id, start_us, min(start_us + length_us, end_us))
        for start_us in range(first_us, end_us, length_us)
    ]


class Replay:
    """One run at work."""

    def __init__(
        self,
        db: sqlite3.Connection,
        pictures: Path,
        vision: Vision,
        run: int,
        progress: Callable[[], object],
        *,
        tells_previous: bool = False,
    ) -> None:
        """`pictures` is the receiver's directory of them; `progress` hears of each frame that was tried.

        `tells_previous`: engines hear what the run said of the frame before in its stretch.
        """
        self._db = db
        self._pictures = pictures
        self._vision = vision
        self._run = run
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay-disk")
        self._tells_previous = tells_previous
        self._left = 0

    async def run(self, wanted: Iterable[Stretch], most: int) -> None:
        """Has up to `most` frames of these stretches described.

        Raises CrowError when the engine cannot serve or the disk fails; answers until then are kept.
        """
        waiting = deque(wanted)
        self._left = most

        async def line() -> None:
            while waiting:
                await self._describe(waiting.popleft())

        try:
            async with asyncio.TaskGroup() as lines:
                for _ in range(min(self._vision.slots, len(waiting))):
                    lines.create_task(line())
        except* CrowError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._thread.shutdown()

    async def _describe(self, stretch: Stretch) -> None:
        after = (stretch.from_us, -1)
        last: tuple[str, int] | None = None  # what this run said, and of when
        while frames := await self._page(stretch, after):
            for frame in frames:
                if self._left <= 0:
                    return
                self._left -= 1
                before = said(*last, frame.capture_us) if self._tells_previous and last is not None else None
                answer, failure = await self._answer(frame, before)
                if answer is not None:
                    last = answer.scene.description, frame.capture_us
                await self._keep(frame, answer, failure)
                self._progress()
            after = (frames[-1].capture_us, frames[-1].id)

    async def _page(self, stretch: Stretch, after: tuple[int, int]) -> list[PendingFrame]:
        where = (stretch.session_id, stretch.to_us, after)
        return await self._on_disk(lambda: reanalyses.next_frames(self._db, self._run, *where, PAGE_FRAMES))

    async def _answer(self, frame: PendingFrame, before: Previous | None) -> tuple[Analysis | None, str | None]:
        """An analysis, or the reason why there is none."""
        for attempt in range(1, TRIES + 1):
            try:
                coded = await self._on_disk(lambda: read_segment(self._pictures, frame.picture))
                # Sessions of a camera may be under way side by side.
                return await self._vision.describe(request_for(frame, coded, frame.session_id, before)), None
            except CrowError as error:
                if not error.retryable:
                    return None, f"{error.code}: {error.message}"
                if attempt == TRIES:
                    if error.code not in FRAME_AT_FAULT:
                        raise
                    return None, f"{error.code}: {error.message} ({TRIES} tries)"
            await asyncio.sleep(RETRY_FIRST_S * 2 ** (attempt - 1))
        raise AssertionError("the last try returns or raises")

    async def _keep(self, frame: PendingFrame, answer: Analysis | None, failure: str | None) -> None:
        def work() -> None:
            with transaction(self._db):
                reanalyses.record(self._db, self._run, frame.id, answer, failure)

        await self._on_disk(work)

    async def _on_disk(self, work: Callable[[], Result]) -> Result:
        """Runs `work` on the thread that has the database, without keeping workers' heartbeats waiting."""

        def guarded() -> Result:
            with translated_errors("receiver.db"):
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)
