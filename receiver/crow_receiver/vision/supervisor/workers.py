"""The `Vision` that the receiver uses: worker processes of one engine, several frames each, restarted when they die.

Invariants
1. A frame waits in one of two lines, or is under way at one worker, or is answered.
2. Each worker has a keeper, a task that waits for its death and starts the next one: at once the first time, then with
   growing pauses until one has answered a frame.
3. Nobody knows which of several frames killed the worker that they shared, so each of them is tried again alone; who
   asked for them does not notice. A frame that kills a worker alone fails with "worker_died". For as long as it is
   remembered it is not put beside others again.
4. A frame is at a worker for no longer than its deadline and the grace after it, and waits no longer than `no_worker_s`
   while no worker runs.
5. After `close` no process is left, and whoever still waits is told so.
"""

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

import structlog

from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_receiver.vision.supervisor.job import Job, Limits
from crow_receiver.vision.supervisor.placement import place_next
from crow_receiver.vision.supervisor.process import WORKER_PROGRAM, WorkerProcess
from crow_receiver.vision.supervisor.references import References
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind
from crow_shared.lifecycle import all_of

log = structlog.get_logger()

PAUSE_FIRST_S = 0.5
PAUSE_MOST_S = 30.0
_MOST_KILLERS = 1000  # frames that are remembered


class WorkerVision:
    """Frames in, analyses out, through worker processes."""

    def __init__(
        self,
        config: WorkerConfig,
        workers: int = 1,
        limits: Limits = Limits(),  # noqa: B008 — frozen
        program: Sequence[str] = WORKER_PROGRAM,
    ) -> None:
        self._config = config
        # The classic engine compares a camera's frames with each other, so one process has to see them all; of the one
        # that talks to servers more would know less of each.
        self._places = workers if config.engine == "llama" else 1
        self._limits = limits
        self._program = program
        self._slots: dict[int, int] = {}  # by place
        self._alone: deque[Job] = deque()
        self._others: deque[Job] = deque()
        self._workers: dict[int, WorkerProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        # The classic engine compares frames itself, and has to see all of them.
        self._references = References(0 if config.engine == "classic" else limits.duplicate_s)
        self._near_duplicates = 0
        self._killers: OrderedDict[tuple[str, int], None] = OrderedDict()  # by camera and capture time
        self._why_down = "its worker is starting"
        self._down_since_s: float | None = None
        self._closed = False

    @property
    def slots(self) -> int:
        """How many frames may be under way at once; known once it is started."""
        return sum(self._slots.values())

    @property
    def near_duplicates(self) -> int:
        """How many frames were answered by the analysis of one that shows the same."""
        return self._near_duplicates

    @property
    def engine_name(self) -> str:
        """The engine in use, for people and metrics."""
        return self._config.engine

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that serve."""
        return tuple(worker.pid for worker in self._serving())

    @property
    def trouble(self) -> str | None:
        """Why no frame can be described at present, None while one can."""
        serving = self._serving()
        if not serving:
            return self._why_down
        troubles = [worker.trouble for worker in serving]
        return None if None in troubles else troubles[0]

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        """Whether another frame would be begun at once, as far as slots go."""
        under_way = sum(worker.frames for worker in self._workers.values())
        return len(self._alone) + len(self._others) + under_way < self.slots

    async def start(self) -> None:
        """Starts all workers and returns when each has its engine loaded.

        Raises CrowError when one cannot, with the reason; then none is left running.
        """
        try:
            await all_of(*(self._start_worker(place, self._config) for place in range(self._places)))
        except BaseException:
            await self.close()
            raise
        ready = self._workers[0].ready
        assert ready is not None
        log.info(
            "vision ready",
            engine=ready.engine,
            model=ready.model,
            workers=self._places,
            slots=self.slots,
            limits=ready.limits,
        )
        for place in self._workers:
            self._keepers.append(asyncio.create_task(self._keep(place), name=f"vision worker {place}"))

    async def close(self) -> None:
        """Ends the workers, whatever they are at; frames under way fail with CrowError(UNAVAILABLE)."""
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        await asyncio.gather(*(worker.kill() for worker in self._workers.values()))
        left = [job for worker in self._workers.values() for job, _ in worker.left_behind()]
        for job in (*left, *self._alone, *self._others):
            job.fail(CrowError(Kind.UNAVAILABLE, "vision_closed", "frame analysis has been stopped"))
        self._alone.clear()
        self._others.clear()

    async def describe(self, request: VisionRequest) -> Analysis:
        """Describes one frame.

        Raises CrowError. Retryable: UNAVAILABLE "worker_died", "no_worker" or "vision_closed", TIMEOUT
        "frame_deadline", and what the engine says of itself. Not retryable: what the engine says of the frame, such as
        CORRUPT "picture_corrupt". When the call is cancelled, the worker is told to forget the frame.
        """
        if self._closed:
            raise CrowError(Kind.UNAVAILABLE, "vision_closed", "frame analysis has been stopped")
        began_s = time.monotonic()
        request, reference = self._references.compared(request)
        job = Job(request, alone=_key(request) in self._killers)
        (self._alone if job.alone else self._others).append(job)
        self._place()
        self._look_at(job)
        try:
            told = await job.answer
        finally:
            if job.next_look is not None:
                job.next_look.cancel()
            if not job.answer.done() or job.answer.cancelled():
                self._forget(job)
        if told.analysis is None:
            assert reference is not None, "the worker was given one"
            self._near_duplicates += 1
            return reference.again(round((time.monotonic() - began_s) * 1000))
        self._references.keep(request, told.sketch, told.analysis)
        return told.analysis

    def _forget(self, job: Job) -> None:
        for line in (self._alone, self._others):
            if job in line:
                line.remove(job)
        for worker in self._workers.values():
            worker.give_up(job)

    def _look_at(self, job: Job) -> None:
        """Looks from time to time whether a frame waits in vain, since there has been no worker for too long."""
        loop = asyncio.get_running_loop()
        waits = job in self._alone or job in self._others
        patience_s = self._limits.no_worker_s
        if waits and self._down_since_s is not None:
            patience_s -= loop.time() - self._down_since_s
        if patience_s <= 0:
            self._forget(job)
            job.fail(CrowError(Kind.UNAVAILABLE, "no_worker", f"no vision worker runs: {self._why_down}"))
        else:
            job.next_look = loop.call_later(patience_s, self._look_at, job)

    def _serving(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if worker.serves]

    def _place(self) -> None:
        """Gives frames that wait to workers, as many as can go."""
        while (placed := place_next(self._alone, self._others, self._serving())) is not None:
            job, worker = placed
            worker.begin(job)

    async def _start_worker(self, place: int, config: WorkerConfig) -> None:
        worker = await WorkerProcess.spawn(self._program, self._limits, self._place)
        self._workers[place] = worker  # from here on `close` knows of it
        self._slots[place] = (await worker.load(config)).slots
        self._down_since_s = None
        self._place()

    async def _keep(self, place: int) -> None:
        pause_s = 0.0
        while True:
            worker = self._workers[place]
            how = await worker.ended()
            self._why_down = f"its worker {how}"
            if not self._serving() and self._down_since_s is None:
                self._down_since_s = asyncio.get_running_loop().time()
            pause_s = 0.0 if worker.answered else _longer(pause_s)
            left = worker.left_behind()
            log.warning(
                "vision worker ended",
                pid=worker.pid,
                how=how,
                frames=len(left),
                again_in_s=pause_s,
                said=worker.last_words,
            )
            self._judge(left, how)
            config = self._as_before(place)
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await self._start_worker(place, config)
                    break
                except CrowError as error:
                    config = self._config
                    self._why_down = f"its worker does not start: {error.message}"
                    pause_s = _longer(pause_s)
                    log.error("vision worker does not start", error=error.message, again_in_s=pause_s)

    def _as_before(self, place: int) -> WorkerConfig:
        """The config with the slots that the worker had: by what memory the others leave, it would plan with fewer."""
        if self._config.engine != "llama":
            return self._config
        llama = self._config.llama.model_copy(update={"slots": self._slots[place]})
        return self._config.model_copy(update={"llama": llama})

    def _judge(self, left: Sequence[tuple[Job, CrowError | None]], how: str) -> None:
        """Has frames that shared a worker tried alone; fails the one that had it for itself."""
        for job, given_up_for in left:
            if job.answer.done():
                continue
            if len(left) > 1:
                job.alone = True
                self._alone.append(job)
                continue
            self._killers[_key(job.request)] = None
            if len(self._killers) > _MOST_KILLERS:
                self._killers.popitem(last=False)
            job.fail(given_up_for or CrowError(Kind.UNAVAILABLE, "worker_died", f"the vision worker {how}"))
        self._place()


def _key(request: VisionRequest) -> tuple[str, int]:
    return (request.camera, request.capture_us)


def _longer(pause_s: float) -> float:
    """The pause after this one, with jitter."""
    most_s = min(PAUSE_MOST_S, max(PAUSE_FIRST_S, pause_s * 2))
    return most_s * random.uniform(0.5, 1)  # noqa: S311 — jitter
