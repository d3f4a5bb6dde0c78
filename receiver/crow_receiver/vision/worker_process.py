"""One worker process as its supervisor sees it: started, asked, killed."""

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress

import structlog
from pydantic import ValidationError

from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_receiver.vision.worker_protocol import (
    ANSWER,
    LENGTHS,
    Answer,
    Describe,
    Described,
    Failed,
    Ready,
    WorkerConfig,
    packed,
    unpacked_lengths,
)
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

# The worker handles pictures from outside, so it is given no variable that it does not need: secrets lie there, too.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "OMP_")
_OWN_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # otherwise a GGML abort forks a debugger that can stay behind
    "OMP_WAIT_POLICY": "passive",  # spinning threads make a busy machine several times slower
    "PYTHONUNBUFFERED": "1",
}
LEAVING_S = 2.0  # for a process to end by itself, and with its own exit code, once its pipe is closed
_LAST_WORDS_LINES = 20
_LINE_BYTES = 2000


class WorkerProcess:
    """A running worker. It answers one `describe` at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS_LINES)
        self._listening = asyncio.create_task(self._listen(), name=f"worker {process.pid} stderr")
        self.ready = Ready(engine="", model=None, limits=())
        self.answered = 0

    @classmethod
    async def spawn(cls) -> "WorkerProcess":
        """A new process, whose engine is still to be loaded. Raises CrowError(UNAVAILABLE) "worker_start"."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "crow_receiver.vision.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environ | _OWN_ENVIRONMENT,
                process_group=0,  # Ctrl-C in a terminal stops the receiver first, which then stops its workers
            )
        except OSError as error:
            raise CrowError(Kind.UNAVAILABLE, "worker_start", f"cannot start a vision worker: {error}") from None
        return cls(process)

    async def load(self, config: WorkerConfig, deadline_s: float) -> None:
        """Loads the engine; to be called once, first.

        Raises CrowError: what the engine said when it cannot load, UNAVAILABLE "worker_died", TIMEOUT "worker_start".
        After any the process is gone.
        """
        late = CrowError(Kind.TIMEOUT, "worker_start", f"the vision worker was not ready within {deadline_s:g} s")
        answer = await self._exchange(packed(config), deadline_s, late)
        if isinstance(answer, Ready):
            self.ready = answer
            return
        await self.kill()
        raise answer.error() if isinstance(answer, Failed) else _out_of_turn(answer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def describe(self, request: VisionRequest, deadline_s: float) -> Analysis:
        """Describes one frame; raises CrowError.

        After UNAVAILABLE "worker_died", TIMEOUT "frame_deadline" and INTERNAL "worker_protocol" the process is gone.
        """
        ask = Describe(
            camera=request.camera,
            camera_name=request.camera_name,
            capture_us=request.capture_us,
            zones=request.zones,
            encoding=request.encoding,
        )
        late = CrowError(Kind.TIMEOUT, "frame_deadline", f"the frame was not described within {deadline_s:g} s")
        answer = await self._exchange(packed(ask, request.coded), deadline_s, late)
        self.answered += 1
        if isinstance(answer, Described):
            return answer.analysis
        if isinstance(answer, Failed):
            raise answer.error()
        await self.kill()
        raise _out_of_turn(answer)

    @property
    def alive(self) -> bool:
        """Whether the process still runs, as far as is known."""
        return self._process.returncode is None

    @property
    def last_words(self) -> list[str]:
        """The last lines that the process wrote to standard error."""
        return list(self._last_words)

    async def ended(self) -> str:
        """Waits until the process has ended and says how it did."""
        code = await self._process.wait()
        # Not a plain await, for one who gives up waiting must not cancel it; and not for ever, for a process that the
        # worker left behind could keep the pipe open.
        await asyncio.wait([self._listening], timeout=LEAVING_S)
        self._listening.cancel()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def kill(self) -> None:
        """Ends the process at once; fine when it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self.ended()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _exchange(self, message: bytes, deadline_s: float, late: CrowError) -> Answer:
        """Sends a message and reads the answer.

        Raises `late` after the deadline, and CrowError when the process dies or talks nonsense. Whatever is raised,
        cancellation included, the process is gone: nobody else would know where in the conversation it is.
        """
        try:
            async with asyncio.timeout(deadline_s):
                return await self._say(message)
        except TimeoutError:
            await self.kill()
            raise late from None
        except BaseException:
            await self.kill()
            raise

    async def _say(self, message: bytes) -> Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(message)
            await stdin.drain()
            header_bytes, body_bytes = unpacked_lengths(await stdout.readexactly(LENGTHS.size))
            header = await stdout.readexactly(header_bytes + body_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died() from None
        try:
            return ANSWER.validate_json(header)
        except ValidationError as error:
            raise CrowError(
                Kind.INTERNAL, "worker_protocol", f"the vision worker's answer is no answer: {error}"
            ) from None

    async def _died(self) -> CrowError:
        """The error for a process whose pipe has closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_S):
                await self._process.wait()
        await self.kill()
        return CrowError(Kind.UNAVAILABLE, "worker_died", f"the vision worker {await self.ended()}")

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


def _out_of_turn(answer: Answer) -> CrowError:
    return CrowError(Kind.INTERNAL, "worker_protocol", f"the vision worker answered {answer.kind!r} out of turn")
