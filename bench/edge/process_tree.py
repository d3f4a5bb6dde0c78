"""What a process and all its descendants cost: CPU time and memory, from /proc."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SCHED = 2  # CPUCLOCK_SCHED: the clock of a process's CPU time, in nanoseconds (clock_getcpuclockid(3))


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time of the trees so far, that of children which have ended included."""
    return sum(_own_cpu_s(pid) + _ended_children_cpu_s(pid) for pid in _tree(roots))


def pss_bytes(roots: Iterable[int]) -> int:
    """The memory of the trees, shared pages counted once (proportional set size)."""
    return sum(_pss_bytes(pid) for pid in _tree(roots))


def _tree(roots: Iterable[int]) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def _stat(pid: int) -> list[str]:
    """The fields from the state on; none for a process that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _own_cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _SCHED)
    except OSError:
        return 0.0


def _ended_children_cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) * _TICK_S if fields else 0.0


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
