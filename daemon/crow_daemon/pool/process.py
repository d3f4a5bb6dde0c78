"""One worker process as the daemon sees it: started, ordered about, listened to, killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import Message

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.pool.log_relay import LogRelay
from crow_daemon.worker.wire.framing import (
    LENGTHS,
    MAX_MESSAGE_BYTES,
    checked_lengths,
    packed,
    parsed_report,
    violation,
)
from crow_shared.errors import CrowError, Kind

PROGRAM = (sys.executable, "-P", "-m", "crow_daemon.worker")

# A worker handles bytes from outside, so it is given no variable that it does not need: secrets may lie there, too.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "MALLOC_")
_LEAVING_S = 2.0  # to end by itself once its socket has, and then for the rest of its standard error
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class WorkerProcess:
    """A running worker; its descriptors but socket and standard error are closed, by `subprocess`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        relay: LogRelay,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.relay = relay
        assert process.stderr is not None
        self._listening = asyncio.create_task(relay.run(process.stderr), name=f"worker {process.pid} stderr")

    @classmethod
    async def spawn(cls, program: Sequence[str] = PROGRAM) -> "WorkerProcess":
        """A new process that waits for its orders. Raises CrowError(UNAVAILABLE) "worker_start"."""
        ours, theirs = socket.socketpair()
        environ = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *program,
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environ | {"PYTHONUNBUFFERED": "1"},
                process_group=0,  # Ctrl-C in a terminal stops the daemon first, which then stops its workers
            )
        except OSError as error:
            ours.close()
            raise CrowError(Kind.UNAVAILABLE, "worker_start", f"cannot start a capture worker: {error}") from None
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_MESSAGE_BYTES)
        return cls(process, reader, writer, LogRelay(process.pid))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def order(self, order: Message) -> None:
        """Tells it something. What a worker that has died was told is lost, as the worker is."""
        if not self._writer.is_closing():
            self._writer.write(packed(order))

    @property
    def unread_bytes(self) -> int:
        """What it was told and has not read."""
        return self._writer.transport.get_write_buffer_size()

    async def report(self) -> tuple[pb.Report, list[bytes]] | None:
        """Its next report, with the pictures of its frames; None when it is gone.

        Raises CrowError(CORRUPT) "worker_protocol" for what is no report.
        """
        try:
            message_bytes, pictures_bytes = checked_lengths(await self._reader.readexactly(LENGTHS.size))
            report = parsed_report(await self._reader.readexactly(message_bytes))
            if sum(report.picture_bytes) != pictures_bytes:
                raise violation("pictures of other lengths than it told")
            pictures = [await self._reader.readexactly(length) for length in report.picture_bytes]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return report, pictures

    def memory_bytes(self) -> int:
        """What of its memory is in RAM; 0 when it is gone."""
        with suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
        return 0

    def is_busy(self) -> bool:
        """Whether one of its threads is at work, waits for a processor, or for the kernel (as for its memory)."""
        with suppress(OSError, IndexError):
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                if (thread / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                    return True
        return False

    def kill(self) -> None:
        """Ends it at once; its end is to be waited for still."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # Popen.kill would look for its exit code first, and take it away

    async def ended(self) -> int:
        """Waits for its end, which is near, and gives everything back: its exit code, negative for a signal."""
        try:
            async with asyncio.timeout(_LEAVING_S):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        # Not for ever, for a process that the worker left behind could keep the pipe open.
        await asyncio.wait([self._listening], timeout=_LEAVING_S)
        self._listening.cancel()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        return code


def said_of(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
