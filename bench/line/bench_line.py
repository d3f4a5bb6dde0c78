"""Frames of 150 KB from daemons to the durable acknowledgement, beside the cheapest and the usual way to do the same.

All processes run on this machine and share its disk. The ways take turns, round after round, so that whatever else the
machine does meets them alike; ratios are medians over the rounds. Then the line alone with 1 to 200 cameras and with 1
to 16 daemons. Run: `make bench-line`; the environment may set what `Settings` lists. Prints a table and, last, one line
of JSON; BENCH_OUT=file keeps that.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pictures
from rivals import RIVALS, Load, Result, measured, median

WINDOW = 64  # frames under way, the receiver's default; HTTP uploads at once
CAMERA_COUNTS = (1, 10, 50, 200)
DAEMON_COUNTS = (1, 4, 16)
FLOOR, USUAL = "raw + fdatasync", "HTTP multipart"


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs, each from the environment as BENCH_ and its name in capitals."""

    frames: int = 6400
    rounds: int = 3
    cameras: int = 16
    daemons: int = 1
    picture_bytes: int = 150_000
    growth_rounds: int = 1  # 0: leave that part out
    state_dir: str = ""  # the disk to measure; empty: the temporary directory's

    @classmethod
    def from_environment(cls) -> "Settings":
        """The defaults, changed by what the environment says."""
        given = {name: os.environ.get(f"BENCH_{name.upper()}") for name in cls.__slots__}
        return cls(**{name: type(getattr(cls(), name))(value) for name, value in given.items() if value})


def main() -> None:
    """Measures and reports."""
    settings = Settings.from_environment()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "pictures"
        pictures.make(place, settings.picture_bytes)
        load = Load(place, settings.frames, settings.cameras, settings.daemons, WINDOW)
        compared = rounds({name: (name, load) for name in RIVALS}, settings.rounds, settings)
        by_cameras = {f"{n} cameras": Load(place, settings.frames, n, 1, WINDOW) for n in CAMERA_COUNTS}
        by_daemons = {f"{n} daemons": Load(place, settings.frames, 16, n, WINDOW) for n in DAEMON_COUNTS}
        growth = rounds(
            {name: ("crow", a_load) for name, a_load in (by_cameras | by_daemons).items()},
            settings.growth_rounds,
            settings,
        )
    report(settings, compared, growth)


def rounds(plan: dict[str, tuple[str, Load]], count: int, settings: Settings) -> dict[str, list[Result]]:
    """Each measurement of the plan once a round, in alternation."""
    results: dict[str, list[Result]] = {name: [] for name in plan}
    state_directory = Path(settings.state_dir) if settings.state_dir else None
    for number in range(count):
        for name, (rival, load) in plan.items():
            result = measured(rival, load, state_directory)
            results[name].append(result)
            print(f"round {number + 1}: {name:<18} {result.frames_per_s:7.0f} frames/s", file=sys.stderr)
    return results


def ratio(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    """The median over the rounds of our rate divided by theirs."""
    return statistics.median(a.frames_per_s / b.frames_per_s for a, b in zip(ours, theirs, strict=True))


def report(settings: Settings, compared: dict[str, list[Result]], growth: dict[str, list[Result]]) -> None:
    """Prints the tables and the JSON."""
    crow = compared["crow"]
    rows = [(name, median(results), ratio(crow, results)) for name, results in compared.items()]
    print(f"{settings.frames} frames of {settings.picture_bytes // 1000} KB, {settings.cameras} cameras, ", end="")
    print(f"{settings.daemons} daemon(s), median of {settings.rounds} rounds, {os.cpu_count()} cores\n")
    print(_HEADER + "   crow is")
    for name, result, times in rows:
        print(_row(name, result) + f"   {times:5.2f} x")
    ours = median(crow)
    cameras_per_core = {
        "daemon": round(1000 / ours.sender_cpu_ms),
        "receiver": round(1000 / ours.receiver_cpu_ms),
    }
    print(f"\ncameras at 1 frame a second that one core carries: {cameras_per_core}")
    if any(growth.values()):
        print(f"\n{_HEADER}")
        for name, results in growth.items():
            print(_row(name, median(results)))
    everything = {
        "settings": asdict(settings),
        "crow_to_floor": round(ratio(crow, compared[FLOOR]), 3),
        "crow_to_http": round(ratio(crow, compared[USUAL]), 3),
        "cameras_per_core_at_1_fps": cameras_per_core,
        "rounds": {name: [_rounded(r) for r in results] for name, results in (compared | growth).items()},
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "crow": version("crow-receiver"),
    }
    print("\n" + json.dumps(everything))
    if out := os.environ.get("BENCH_OUT"):
        Path(out).write_text(json.dumps(everything, indent=1) + "\n")


_HEADER = (
    f"{'':<18} frames/s    MB/s   CPU ms a frame      latency ms       peak MB\n"
    f"{'':<18}                   send   receive    p50     p99    send  receive"
)


def _row(name: str, r: Result) -> str:
    return (
        f"{name:<18} {r.frames_per_s:8.0f} {r.mb_per_s:7.0f}  {r.sender_cpu_ms:5.2f}  {r.receiver_cpu_ms:8.2f} "
        f"{r.latency_p50_ms:6.1f}  {r.latency_p99_ms:6.1f}  {r.sender_rss_mb:6.0f}  {r.receiver_rss_mb:7.0f}"
    )


def _rounded(result: Result) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(result).items()}


if __name__ == "__main__":
    main()
