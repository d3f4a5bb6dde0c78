"""The `Vision` that the receiver uses: worker processes, each with one frame at a time, restarted when they die.

Invariants
1. A worker is idle (in the queue `_idle`), or at work for one `describe`, or dead. Whoever takes it from the queue puts
   it back unless it has died.
2. Each worker has a keeper, a task that waits for its death and starts the next one: at once the first time, then with
   growing pauses until one has answered a frame. A death costs the frame that the worker was at, no other.
3. A frame never takes longer than the deadline, and waits no longer than that for a worker to be idle.
4. After `close` no process is left, and whoever still waits for a worker is told so: the None in the queue is passed on
   from one to the next.
"""

import asyncio
import random

import structlog

from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_receiver.vision.worker_process import WorkerProcess
from crow_receiver.vision.worker_protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

START_DEADLINE_S = 600.0  # a large model from a cold disk
PAUSE_FIRST_S = 0.5
PAUSE_MOST_S = 30.0


class WorkerVision:
    """Frames in, analyses out, through worker processes."""

    def __init__(self, config: WorkerConfig, workers: int = 1, deadline_s: float = 300.0) -> None:
        self._config = config
        # The classic engine compares a camera's frames with each other, so one process has to see them all.
        self._slots = 1 if config.engine == "classic" else workers
        self._deadline_s = deadline_s
        self._idle: asyncio.Queue[WorkerProcess | None] = asyncio.Queue()
        self._workers: dict[int, WorkerProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def slots(self) -> int:
        """How many frames may be under way at once."""
        return self._slots

    @property
    def engine_name(self) -> str:
        """The engine in use, for people and metrics."""
        return self._config.engine

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that are up."""
        return tuple(worker.pid for worker in self._workers.values() if worker.alive)

    async def start(self) -> None:
        """Starts all workers and returns when each has its engine loaded.

        Raises CrowError when one cannot, with the reason; then none is left running.
        """
        starting = [asyncio.create_task(self._start_worker(slot)) for slot in range(self._slots)]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.close()
            raise
        ready = self._workers[0].ready
        log.info("vision ready", engine=ready.engine, model=ready.model, workers=self._slots, limits=ready.limits)
        self._keepers = [asyncio.create_task(self._keep(slot), name=f"vision worker {slot}") for slot in self._workers]

    async def close(self) -> None:
        """Ends the workers, whatever they are at; frames under way fail with CrowError(UNAVAILABLE)."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        await asyncio.gather(*(worker.kill() for worker in self._workers.values()))
        self._idle.put_nowait(None)

    async def describe(self, request: VisionRequest) -> Analysis:
        """Describes one frame.

        Raises CrowError. Retryable: UNAVAILABLE "worker_died", "no_worker" or "vision_closed", TIMEOUT
        "frame_deadline". Not retryable: what the engine says of the frame, such as CORRUPT "picture_corrupt". A call
        that is cancelled at work costs its worker, since nothing else would stop it.
        """
        worker = await self._idle_worker()
        try:
            return await worker.describe(request, self._deadline_s)
        finally:
            if worker.alive:
                self._idle.put_nowait(worker)

    async def _idle_worker(self) -> WorkerProcess:
        try:
            async with asyncio.timeout(self._deadline_s):
                while True:
                    worker = await self._idle.get()
                    if worker is None:
                        self._idle.put_nowait(None)
                        raise CrowError(Kind.UNAVAILABLE, "vision_closed", "frame analysis has been stopped")
                    if worker.alive:
                        return worker
        except TimeoutError:
            raise CrowError(
                Kind.UNAVAILABLE, "no_worker", f"no vision worker was free within {self._deadline_s:g} s"
            ) from None

    async def _start_worker(self, slot: int) -> None:
        worker = self._workers[slot] = await WorkerProcess.spawn()  # from here on `close` knows of it
        await worker.load(self._config, START_DEADLINE_S)
        self._idle.put_nowait(worker)

    async def _keep(self, slot: int) -> None:
        pause_s = 0.0
        while True:
            worker = self._workers[slot]
            how = await worker.ended()
            pause_s = 0.0 if worker.answered else _longer(pause_s)
            log.warning("vision worker ended", pid=worker.pid, how=how, again_in_s=pause_s, said=worker.last_words)
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await self._start_worker(slot)
                    break
                except CrowError as error:
                    pause_s = _longer(pause_s)
                    log.error("vision worker does not start", error=error.message, again_in_s=pause_s)


def _longer(pause_s: float) -> float:
    """The pause after this one, with jitter."""
    most_s = min(PAUSE_MOST_S, max(PAUSE_FIRST_S, pause_s * 2))
    return most_s * random.uniform(0.5, 1)  # noqa: S311 — jitter
