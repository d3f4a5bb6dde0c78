"""One worker process as its supervisor sees it: started, given frames, listened to, killed.

Invariants
1. A frame that was begun is answered once: by what the worker says of it, or, when the worker has ended, by whoever
   asks for `left_behind`.
2. It counts as under way until the worker has said that it is rid of it, also when nobody waits for the answer.
3. The process is killed when it does not let go of a frame in time, says nothing for too long, or says what it must
   not.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from crow_receiver.vision.likeness import MAX_SKETCH_BYTES
from crow_receiver.vision.supervisor.job import Job, Limits, Told
from crow_receiver.vision.worker.protocol import (
    LENGTHS,
    REPORT,
    Abort,
    Aborted,
    Answer,
    Beat,
    Describe,
    Described,
    Failed,
    LoadingFailed,
    Ready,
    Report,
    Unchanged,
    WorkerConfig,
    packed,
    unpacked_lengths,
)
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

WORKER_PROGRAM = (sys.executable, "-P", "-m", "crow_receiver.vision.worker")
# The worker handles pictures from outside, so it is given no variable that it does not need: secrets lie there, too.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "OMP_", "MALLOC_")
_OWN_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # otherwise a GGML abort forks a debugger that can stay behind
    "OMP_WAIT_POLICY": "passive",  # spinning threads make a busy machine several times slower
    "PYTHONUNBUFFERED": "1",
}
LEAVING_S = 2.0  # for a process to end by itself, and with its own exit code, once its pipe is closed
_LOOK_S = 1.0  # between two looks at how long the worker has been silent
_LAST_WORDS_LINES = 20
_LINE_BYTES = 2000


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A frame at the worker. `error` is what it is given up for, and `timer` runs to its deadline or end of grace."""

    job: Job
    timer: asyncio.TimerHandle
    error: CrowError | None = None


class WorkerProcess:
    """A running worker, with up to `ready.slots` frames under way."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits, changed: Callable[[], None]) -> None:
        """`changed` is called when a frame has ended or the engine's trouble is another one."""
        self._process = process
        self._limits = limits
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[int, _UnderWay] = {}
        self._ids = itertools.count(1)
        self._loaded: asyncio.Future[Ready] = self._loop.create_future()
        self._why_killed: str | None = None
        self._heard_s: float | None = None
        self._step_s = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS_LINES)
        self._hearing = asyncio.create_task(self._hear(), name=f"worker {process.pid} stdout")
        self._listening = asyncio.create_task(self._listen(), name=f"worker {process.pid} stderr")
        self.ready: Ready | None = None
        self.trouble: str | None = None
        self.answered = 0

    @classmethod
    async def spawn(cls, program: Sequence[str], limits: Limits, changed: Callable[[], None]) -> "WorkerProcess":
        """A new process, whose engine is still to be loaded. Raises CrowError(UNAVAILABLE) "worker_start"."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environ | _OWN_ENVIRONMENT,
                process_group=0,  # Ctrl-C in a terminal stops the receiver first, which then stops its workers
            )
        except OSError as error:
            raise CrowError(Kind.UNAVAILABLE, "worker_start", f"cannot start a vision worker: {error}") from None
        return cls(process, limits, changed)

    async def load(self, config: WorkerConfig) -> Ready:
        """Loads the engine; to be called once, first.

        Raises CrowError: what the engine said when it cannot load, UNAVAILABLE "worker_died", TIMEOUT "worker_start".
        After any the process is gone.
        """
        try:
            self._write(packed(config))
            async with asyncio.timeout(self._limits.start_s):
                self.ready = await self._loaded
        except TimeoutError:
            await self.kill("was not ready in time")
            raise CrowError(
                Kind.TIMEOUT, "worker_start", f"the vision worker was not ready within {self._limits.start_s:g} s"
            ) from None
        except BaseException:
            await self.kill()
            raise
        return self.ready

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def serves(self) -> bool:
        """Whether frames may be begun."""
        return self.ready is not None and self._process.returncode is None and self._why_killed is None

    @property
    def frames(self) -> int:
        """How many frames are under way."""
        return len(self._under_way)

    @property
    def free(self) -> int:
        """How many more may be."""
        return 0 if self.ready is None else self.ready.slots - len(self._under_way)

    @property
    def is_kept_for_one(self) -> bool:
        """Whether a frame is under way that is to have the worker for itself."""
        return any(each.job.alone for each in self._under_way.values())

    def begin(self, job: Job) -> None:
        """Gives the worker a frame; `job` is answered in time."""
        frame_id = next(self._ids)
        timer = self._loop.call_later(self._limits.deadline_s, self._overdue, frame_id)
        self._under_way[frame_id] = _UnderWay(job, timer)
        self._write(packed(Describe.of(frame_id, job.request), job.request.coded + job.request.reference))

    def give_up(self, job: Job) -> None:
        """Has the worker forget a frame, if it has it, for whose answer nobody waits any more."""
        for frame_id, each in self._under_way.items():
            if each.job is job and each.error is None:
                self._abort(frame_id, CrowError(Kind.UNAVAILABLE, "frame_given_up", "nobody waits for the frame"))

    def left_behind(self) -> list[tuple[Job, CrowError | None]]:
        """Once the process has ended: the frames that it was at, each with what it had been given up for, if it was."""
        left = [(each.job, each.error) for each in self._under_way.values()]
        for each in self._under_way.values():
            each.timer.cancel()
        self._under_way.clear()
        return left

    @property
    def last_words(self) -> list[str]:
        """The last lines that the process wrote to standard error."""
        return list(self._last_words)

    async def ended(self) -> str:
        """Waits until the process has ended and says how it did."""
        code = await self._process.wait()
        # Not a plain await, for one who gives up waiting must not cancel them; and not for ever, for a process that the
        # worker left behind could keep the pipes open.
        await asyncio.wait([self._hearing, self._listening], timeout=LEAVING_S)
        self._hearing.cancel()
        self._listening.cancel()
        if self._look is not None:
            self._look.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._why_killed:
            return f"{self._why_killed} and was killed"
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"

    async def kill(self, why: str | None = None) -> None:
        """Ends the process at once; fine when it has ended. `why` is told as how it ended: "the worker …"."""
        self._condemn(why or "was stopped")
        await self.ended()

    def _condemn(self, why: str) -> None:
        if self._process.returncode is None and self._why_killed is None:
            self._why_killed = why
            with suppress(ProcessLookupError):
                self._process.kill()

    def _write(self, message: bytes) -> None:
        """Sends a message. What the pipe does not take waits in memory: some frames at most, since slots are few."""
        stdin = self._process.stdin
        assert stdin is not None
        if not stdin.is_closing():
            stdin.write(message)

    def _overdue(self, frame_id: int) -> None:
        deadline_s = self._limits.deadline_s
        late = CrowError(Kind.TIMEOUT, "frame_deadline", f"the frame was not described within {deadline_s:g} s")
        self._abort(frame_id, late)

    def _abort(self, frame_id: int, error: CrowError) -> None:
        each = self._under_way[frame_id]
        each.error = error
        each.timer.cancel()
        each.timer = self._loop.call_later(self._limits.grace_s, self._not_let_go)
        self._write(packed(Abort(id=frame_id)))

    def _not_let_go(self) -> None:
        step = f", {self._step_s:.0f} s into a step" if self._step_s else ""
        self._condemn(f"did not let go of a frame within {self._limits.grace_s:g} s{step},")

    async def _hear(self) -> None:
        """Takes what the worker says until it says no more; then it has no more to do."""
        stdout = self._process.stdout
        assert stdout is not None
        try:
            while True:
                prefix = await stdout.readexactly(LENGTHS.size)
                header_bytes, body_bytes = unpacked_lengths(prefix, MAX_SKETCH_BYTES)
                header = await stdout.readexactly(header_bytes)
                self._take(REPORT.validate_json(header), await stdout.readexactly(body_bytes))
        except (asyncio.IncompleteReadError, ConnectionError):
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVING_S):
                    await self._process.wait()
            self._condemn("closed its pipe")
        except ValidationError as error:
            self._condemn(f"said what is no message ({error.error_count()} faults)")
        except CrowError as error:
            self._condemn(f"said what is no message ({error.message})")
        if not self._loaded.done():
            self._loaded.set_exception(
                CrowError(Kind.UNAVAILABLE, "worker_died", "the vision worker died while loading")
            )
            self._loaded.exception()  # whoever loads may have gone

    def _take(self, report: Report, body: bytes) -> None:
        if self._heard_s is None:
            self._look_again()
        self._heard_s = self._loop.time()
        match report:
            case Beat():
                self._step_s = report.step_s
                if report.trouble != self.trouble:
                    self.trouble = report.trouble
                    self._changed()
            case Ready():
                self._once_loaded()
                self._loaded.set_result(report)
            case LoadingFailed():
                self._once_loaded()
                self._loaded.set_exception(report.error())
            case _:
                self._take_answer(report, body)

    def _once_loaded(self) -> None:
        if self._loaded.done():
            raise CrowError(Kind.INTERNAL, "worker_protocol", "it was loaded twice")

    def _take_answer(self, answer: Answer, body: bytes) -> None:
        each = self._under_way.get(answer.id)
        if each is None or not _fits(answer, each):
            raise CrowError(Kind.INTERNAL, "worker_protocol", f"{answer.kind} of frame {answer.id}, out of turn")
        each.timer.cancel()
        del self._under_way[answer.id]
        self.answered += not isinstance(answer, Aborted)
        if isinstance(answer, Described):
            each.job.succeed(Told(answer.analysis, body))
        elif isinstance(answer, Unchanged):
            each.job.succeed(Told(None, b""))
        elif isinstance(answer, Failed):
            each.job.fail(answer.error())
        elif each.error is not None:
            each.job.fail(each.error)
        self._changed()

    def _look_again(self) -> None:
        due_s = self._loop.time() + _LOOK_S
        self._look = self._loop.call_at(due_s, self._look_for_silence, due_s)

    def _look_for_silence(self, due_s: float) -> None:
        """Kills a worker that has said nothing for too long, unless it is we who stood still and did not listen."""
        now_s = self._loop.time()
        assert self._heard_s is not None
        if now_s - due_s > _LOOK_S:
            self._heard_s = now_s
        elif now_s - self._heard_s > self._limits.silent_s:
            self._condemn(f"said nothing for {self._limits.silent_s:g} s")
            return
        self._look_again()

    async def _listen(self) -> None:
        """Keeps what the process writes to standard error: its native libraries write there as well."""
        stderr = self._process.stderr
        assert stderr is not None
        rest = b""
        while chunk := await stderr.read(_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:_LINE_BYTES]
            for line in lines:
                self._heard(line)
        if rest:
            self._heard(rest)

    def _heard(self, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode("utf-8", "replace")
        self._last_words.append(text)
        log.debug("vision worker says", pid=self.pid, line=text)


def _fits(answer: Answer, each: _UnderWay) -> bool:
    """Whether the worker may say this of the frame."""
    if isinstance(answer, Aborted):
        return each.error is not None
    return not isinstance(answer, Unchanged) or bool(each.job.request.reference)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
