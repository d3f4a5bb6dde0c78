"""CPU time per camera and hour: ours beside what a user would run instead, and beside the least that is possible.

Everything reads the same streams from one real RTSP server on this machine, whose time is not counted. All take
turns, round after round, so that whatever else the machine does meets them alike; ratios are medians over the rounds.
Counted is user and system time of whole process trees over a window that begins when all cameras deliver. Run:
`make bench-edge`; the environment may set what `Settings` lists. Prints a table, and writes the results as JSON.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import chart
import ours
import process_tree
import report
import streams
from floors import floors
from rivals import ffmpeg_version, rivals
from subject import Produced, Running, Subject

DOCS = Path(__file__).parents[2] / "docs"
READY_S = 60.0
SHORT_OF = 0.9  # of the samples that are due


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs, each from the environment as BENCH_ and its name in capitals."""

    seconds: float = 10.0  # of a window; a multiple of 10, so that all intervals fit evenly
    warm_up_s: float = 5.0  # after every camera has delivered
    rounds: int = 3
    cameras: int = ours.USUAL_CAMERAS  # of ours and of the floors
    more_cameras: int = 64  # of the row that shows what many cameras share
    rival_cameras: int = 2
    only: str = ""  # part of a name: measure those and what they are compared with
    out: str = "bench/results/edge.json"
    publish: int = 1  # 0: leave the chart and the table in docs/ as they are
    streams: str = "build/bench-edge"  # where the encoded streams are kept

    @classmethod
    def from_environment(cls) -> "Settings":
        """The defaults, changed by what the environment says."""
        given = {name: os.environ.get(f"BENCH_{name.upper()}") for name in cls.__slots__}
        return cls(**{name: type(getattr(cls(), name))(value) for name, value in given.items() if value})


@dataclass(frozen=True, slots=True)
class Measured:
    """One window of one subject."""

    cpu_s_per_camera_h: float
    pss_mb_per_camera: float
    frames_per_camera_s: float
    bytes_per_frame: float


def main() -> None:
    """Measures and reports."""
    settings = Settings.from_environment()
    subjects = [subject for subject in plan(settings) if wanted(subject, settings.only)]
    clips = streams.made(Path(settings.streams))
    rounds: list[list[Measured]] = [[] for _ in subjects]
    with camera_server(clips, max(settings.cameras, settings.more_cameras)) as urls:
        for number in range(settings.rounds):
            for subject, results in zip(subjects, rounds, strict=True):
                result = measured(subject, urls, settings)
                results.append(result)
                told = f"{result.cpu_s_per_camera_h:8.1f} CPU-s/camera-h  {result.frames_per_camera_s:.2f} frames/s"
                print(f"round {number + 1}: {subject.stream:<8} {subject.name:<34} {told}", file=sys.stderr)
    found = {
        "settings": asdict(settings),
        "machine": machine(),
        "streams": {name: asdict(stream) for name, stream in streams.STREAMS.items()},
        "subjects": [
            {
                "name": subject.name,
                "stream": subject.stream,
                "cameras": subject.cameras,
                "interval_s": subject.interval_s,
                "is_floor": subject.is_floor,
                "command": subject.command,
                "rounds": [asdict(result) for result in results],
            }
            for subject, results in zip(subjects, rounds, strict=True)
        ],
    }
    out = Path(settings.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if settings.publish:
        chart.write(found, DOCS / "edge.svg")
        report.write_into(DOCS / "EDGE.md", found)
    print(report.table(found))
    short = [s for s, results in zip(subjects, rounds, strict=True) if any(is_short(s, result) for result in results)]
    if short:
        names = ", ".join(f"{subject.name} ({subject.stream})" for subject in short)
        sys.exit(f"fewer pictures than were due, so these figures say little: {names}")


def plan(settings: Settings) -> list[Subject]:
    """Everything that is measured, in order. On each stream, the first is what the others are compared with."""
    many, few = settings.cameras, settings.rival_cameras
    first, *other_rivals = rivals("h264", few)
    first_h265, *other_rivals_h265 = rivals("h265", few)
    return [
        first,
        ours.keyframe_direct("h264", many, 1.0),
        ours.keyframe_direct("h264", settings.more_cameras, 1.0),
        ours.keyframe_pyav("h264", many, 1.0),
        ours.decode_and_gate("h264", many, 1.0),
        ours.decode("h264", many, 1.0),
        ours.gate_on_substream("h264", "h264-sub", many, 2.0),
        ours.keyframe_direct("h264", many, 5.0),
        ours.decode_and_gate("h264", many, 5.0),
        *floors("h264", many),
        *other_rivals,
        first_h265,
        ours.keyframe_direct("h265", many, 1.0),
        ours.keyframe_pyav("h265", many, 1.0),
        ours.decode_and_gate("h265", many, 1.0),
        ours.decode_and_gate("h265", many, 5.0),
        *[rival for rival in other_rivals_h265 if "nokey" in rival.name or "Frigate" in rival.name],
        rivals("h265-2s", few)[0],
        ours.keyframe_direct("h265-2s", many, 5.0),
        ours.decode_and_gate("h265-2s", many, 5.0),
    ]


def wanted(subject: Subject, only: str) -> bool:
    """Whether the subject is to be measured."""
    return only in f"{subject.stream} {subject.name}" or subject.name == report.BASELINE


@contextmanager
def camera_server(clips: dict[str, Path], cameras: int) -> Iterator[dict[str, list[str]]]:
    """The URLs of so many cameras of each stream, served by a process of its own; keyframes come at different times."""
    mounts = [f"--mount={name}-{number}={path}" for name, path in clips.items() for number in range(cameras)]
    command = [str(Path(sys.executable).with_name("crow-sim")), "serve", "--anywhere", "--port", "0", *mounts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield {name: [server.stdout.readline().strip() for _ in range(cameras)] for name in clips}
        finally:
            server.terminate()


def measured(subject: Subject, urls: dict[str, list[str]], settings: Settings) -> Measured:
    """Starts the subject, lets it come to rest, measures one window and ends it."""
    sub_urls = urls[subject.sub_stream][: subject.cameras] if subject.sub_stream else []
    with subject.start(urls[subject.stream][: subject.cameras], sub_urls) as running:
        wait_until_all_deliver(subject, running)
        time.sleep(settings.warm_up_s)
        began_s, cpu_before_s, before = time.monotonic(), process_tree.cpu_s(running.roots), running.produced()
        time.sleep(settings.seconds)
        spent_s = process_tree.cpu_s(running.roots) - cpu_before_s
        after, camera_s = running.produced(), (time.monotonic() - began_s) * subject.cameras
        pss_bytes = process_tree.pss_bytes(running.roots)
    frames = after.frames - before.frames
    return Measured(
        cpu_s_per_camera_h=round(spent_s / camera_s * 3600, 3),
        pss_mb_per_camera=round(pss_bytes / subject.cameras / 1e6, 2),
        frames_per_camera_s=round(frames / camera_s, 3),
        bytes_per_frame=round((after.size_bytes - before.size_bytes) / max(1, frames)),
    )


def wait_until_all_deliver(subject: Subject, running: Running) -> None:
    """Returns when so many frames have come as there are cameras. Raises TimeoutError when they do not."""
    ends_s = time.monotonic() + READY_S
    produced = Produced(0, 0)
    while produced.frames < subject.cameras:
        if time.monotonic() > ends_s:
            raise TimeoutError(f"{subject.name}: {produced.frames} pictures in {READY_S} s")
        time.sleep(0.25)
        produced = running.produced()


def is_short(subject: Subject, result: Measured) -> bool:
    """Whether pictures are missing that nothing has held back."""
    if subject.is_floor or subject.gated:
        return result.frames_per_camera_s == 0
    return result.frames_per_camera_s * subject.interval_s < SHORT_OF


def machine() -> dict[str, str | int | None]:
    """What it was measured with."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in cpu_lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "crow": version("crow-daemon"),
        "pyav": version("av"),
        "opencv": version("opencv-python-headless"),
        "ffmpeg": ffmpeg_version(),
    }


if __name__ == "__main__":
    main()
