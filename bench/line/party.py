"""One process of a measurement, driven over its pipes, and what it says of itself.

A party prints one JSON line when it is ready (a server with its port). A sender then waits for a line on its standard
input, sends, and prints its `Sent` as JSON. Whatever goes wrong, its standard error is shown.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

END_S = 60.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sent:
    """What one sender did; times are of the machine's monotonic clock, latencies from send to durable answer."""

    frames: int
    begin_s: float
    end_s: float
    cpu_s: float
    peak_rss_bytes: int
    latencies_ms: list[float]


class Stopwatch:
    """Measures a sender from inside."""

    def __init__(self) -> None:
        self._begin_s, self._cpu_s = time.monotonic(), _own_cpu_s()
        self._sent_s: dict[Any, float] = {}
        self._latencies_ms: list[float] = []

    def sent(self, frame: Any) -> None:
        """The frame, whatever names it, is on its way."""
        self._sent_s[frame] = time.monotonic()

    def durable(self, frame: Any) -> None:
        """The frame's answer is here."""
        self._latencies_ms.append(round((time.monotonic() - self._sent_s.pop(frame)) * 1000, 3))

    @property
    def under_way(self) -> int:
        """Frames without an answer."""
        return len(self._sent_s)

    @property
    def answered(self) -> int:
        """Frames with an answer."""
        return len(self._latencies_ms)

    def report(self) -> None:
        """Prints what was measured."""
        peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        spent_s = _own_cpu_s() - self._cpu_s
        sent = Sent(self.answered, self._begin_s, time.monotonic(), spent_s, peak_rss_bytes, self._latencies_ms)
        print(json.dumps(asdict(sent)), flush=True)


def ready(**facts: int) -> None:
    """Says that this party is ready."""
    print(json.dumps(facts), flush=True)


def wait_for_go() -> None:
    """Returns when the measurement begins."""
    sys.stdin.readline()


class Party:
    """A script beside this file, running as a process of its own."""

    def __init__(self, script: str, *arguments: str | int, environ: dict[str, str] | None = None) -> None:
        path = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environ or {})},
            text=True,
        )
        self._arguments = f"{script} {' '.join(map(str, arguments))}"

    def heard(self) -> dict[str, Any]:
        """The next line that the party prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._arguments} ended:\n{self._process.communicate()[1]}")
        said: dict[str, Any] = json.loads(line)
        return said

    def go(self) -> None:
        """Lets a sender begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    @property
    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that it has held."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def __enter__(self) -> Self:
        """The process runs already."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Asks for an orderly end, or takes it."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
