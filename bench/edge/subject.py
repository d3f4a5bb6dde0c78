"""What is measured: a way to get pictures out of cameras, running."""

import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

END_S = 20.0


@dataclass(frozen=True, slots=True)
class Produced:
    """What came out so far: frames (for a floor: pictures or reads), and their bytes."""

    frames: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """The processes that are to be paid for, and how much has come out of them."""

    roots: Sequence[int]
    produced: Callable[[], Produced]


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the table: cameras of `stream`, a picture of each wanted every `interval_s` (0: a floor, no pictures).

    `start` gets the cameras' URLs, and those of their substreams where there is a `sub_stream`; it gives what runs, and
    leaving its context ends that. `gated` ones may produce less than a picture for each interval.
    """

    name: str
    stream: str
    cameras: int
    interval_s: float
    command: str  # for the report
    start: Callable[[Sequence[str], Sequence[str]], AbstractContextManager[Running]]
    sub_stream: str = ""
    gated: bool = False

    @property
    def is_floor(self) -> bool:
        """Whether it only shows what cannot be saved."""
        return not self.interval_s


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks for the end of these, and takes it after a while."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
