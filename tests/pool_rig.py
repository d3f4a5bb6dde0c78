"""What the tests of capture workers share: a pool with real processes, and the line that takes its frames."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from camera_rig import WAIT_S

from crow_daemon.capture.outcome import Dropped
from crow_daemon.capture.state import CameraSnapshot, CameraState
from crow_daemon.detect.config import DetectorConfig
from crow_daemon.ledger.book import Book
from crow_daemon.pool.pool import CapturePool
from crow_daemon.pool.process import PROGRAM
from crow_daemon.pool.worker import Terms
from crow_daemon.registry.registry import Registry
from crow_shared.clock import Moment, SystemClock
from crow_shared.frame import Frame

MEMORY_BYTES = 1 << 30


class CollectingLine:
    """Keeps the frames; says that it has no room while told to."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.has_room = True
        self.takes_recordings = True
        self.refusal = Dropped.SPOOL_FULL

    def offer(self, frame: Frame) -> bool:
        self.frames.append(frame)
        return True

    def last_capture_us(self, camera_id: str) -> int | None:
        mine = self.of(camera_id)
        return mine[-1].capture_us if mine else None

    def of(self, camera_id: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.camera_id == camera_id]


class PoolRig:
    """A pool that follows its registry, as in the daemon but more often."""

    def __init__(
        self,
        registry: Registry,
        cameras_per_worker: int = 8,
        program: Sequence[str] = PROGRAM,
        memory_bytes: int = MEMORY_BYTES,
        detector: DetectorConfig | None = None,
    ) -> None:
        self.registry = registry
        self.line = CollectingLine()
        self.book = Book()
        self._spooled = 0
        terms = Terms("info", memory_bytes, detector, program=program)
        self.pool = CapturePool(registry, self.line, self.book, SystemClock(), terms, cameras_per_worker)

    def snapshot(self, camera_id: str = "till") -> CameraSnapshot:
        return {snapshot.camera_id: snapshot for snapshot in self.pool.states()}[camera_id]

    def state(self, camera_id: str = "till") -> CameraState:
        return self.snapshot(camera_id).state

    def write_ledger(self) -> None:
        """What the spool and the ledger do once a second."""
        fresh, self._spooled = self.line.frames[self._spooled :], len(self.line.frames)
        self.book.spooled(fresh)
        self.book.take(Moment.now(SystemClock()))
        self.book.written()

    async def until(self, condition: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
        """Waits for what other processes bring about."""
        ends_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < ends_s, f"never came true: {what}; {self.pool.states()}"
            self.write_ledger()
            await self.pool.reconcile()
            await asyncio.sleep(0.02)

    async def until_frames(self, count: int, camera_id: str = "till") -> list[Frame]:
        before = len(self.line.of(camera_id))
        await self.until(lambda: len(self.line.of(camera_id)) >= before + count, f"{count} more frames of {camera_id}")
        return self.line.of(camera_id)


@asynccontextmanager
async def running_pool(rig: PoolRig) -> AsyncIterator[PoolRig]:
    """Runs the pool; no process is left at the end."""
    await rig.pool.start()
    watching = asyncio.create_task(rig.pool.watch())
    try:
        yield rig
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        pids = [worker["pid"] for worker in rig.pool.workers()]
        await rig.pool.stop(10)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids if pid)
