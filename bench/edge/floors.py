"""The least that any reader pays: the demuxer of libav alone, and the bytes taken off the sockets and forgotten."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from subject import Produced, Running, Subject, end


def floors(stream: str, cameras: int) -> list[Subject]:
    """Both, each with all cameras in one process."""

    def subject(name: str, script: str) -> Subject:
        return Subject(name, stream, cameras, 0.0, f"{script} URL...", partial(_reading, script))

    return [
        subject("floor: libav demuxer", "demux_floor.py"),
        subject("floor: socket read", "socket_floor.py"),
    ]


@contextmanager
def _reading(script: str, urls: Sequence[str], _: Sequence[str]) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script)), *urls], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def produced() -> Produced:  # a line for a line
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        units, size_bytes = map(int, process.stdout.readline().split())
        return Produced(units, size_bytes)

    try:
        yield Running([process.pid], produced)
    finally:
        end([process])
