"""One engine in a process of its own, driven over its pipes.

It prints a line when it is loaded; then each line on its standard input is a round of frames, which it answers with a
line of what it said and what that took.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from workload import Frame

_END_S = 60.0
_LOGS = Path(__file__).resolve().parents[2] / "build" / "bench-vision"


@dataclass(frozen=True, slots=True)
class Round:
    """What a round took; the split and the guesses are known of ours alone."""

    texts: list[str]
    wall_s: float
    cpu_s: float
    memory_bytes: int
    split_s: dict[str, float] = field(default_factory=dict)
    guessed: int = 0
    right: int = 0


def serve(run: Callable[[list[Frame]], tuple[list[str], dict[str, object]]], more_cpu_s: Callable[[], float]) -> None:
    """Answers rounds until the input ends. `more_cpu_s` is that of other processes which belong to it."""
    print("ready", flush=True)
    for line in sys.stdin:
        frames = [Frame(camera, number, tuple(scene)) for camera, number, scene in json.loads(line)]
        cpu_s, begin_s = _cpu_s() + more_cpu_s(), time.monotonic()
        texts, more = run(frames)
        wall_s = time.monotonic() - begin_s
        spent_s = _cpu_s() + more_cpu_s() - cpu_s
        memory_bytes = more.pop("memory_bytes", None) or resident_bytes(os.getpid())
        print(json.dumps(asdict(Round(texts, wall_s, spent_s, memory_bytes, **more))), flush=True)


def resident_bytes(pid: int) -> int:
    """What a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Party:
    """A script beside this file, loaded and waiting."""

    def __init__(self, name: str, script: str, *arguments: str) -> None:
        self.name = name
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        # Threads that wait for the next round take nothing from those at work.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        self._said = _LOGS / f"{name.replace(' ', '-')}.log"
        with self._said.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        self._line()

    def run(self, frames: Sequence[Frame]) -> Round:
        """Has a round of frames answered."""
        assert self._process.stdin is not None
        given = [(frame.camera, frame.number, frame.scene) for frame in frames]
        print(json.dumps(given), file=self._process.stdin, flush=True)
        return Round(**json.loads(self._line()))

    def end(self) -> None:
        """Lets it go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()}: see {self._said}")
        return line
