"""Frames a second through the whole line: a daemon's full spool → gRPC → receiver → classic engine → both queues.

Real processes on one machine, frames of the rendered shop (896 x 504, JPEG quality 85), four cameras. Prints one line
of JSON; the rates are of this machine, so compare them only with others of the same run. Run: `make bench-whole`.
"""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2

from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_receiver.overview import overview
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_shared.clock import SystemClock
from crow_shared.frame import Frame, TimeSource
from crow_sim.line import DaemonService, ReceiverService
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.view import VIEWS

FRAMES = int(os.environ.get("BENCH_FRAMES", "2000"))
CAMERAS = 4
SIZE = (896, 504)
PICTURES = 120  # rendered once, a second of shop time apart, and used in turn


def main() -> None:
    """Fills the spool, starts the line, waits for the last analysis."""
    pictures = rendered()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        fill(directory / "daemon" / "spool", pictures)
        with ReceiverService(directory / "receiver") as receiver:
            daemon = DaemonService(directory / "daemon", receiver.grpc_address)
            started, cpu = time.perf_counter(), children_cpu_s()
            with daemon:
                stored_s = waited(started, lambda: total(receiver, "stored") >= FRAMES)
                analysed_s = waited(started, lambda: total(receiver, "analysed") >= FRAMES)
                assert daemon.stop() == 0
            assert receiver.stop() == 0
            used = children_cpu_s() - cpu
    print(
        json.dumps(
            {
                "frames": FRAMES,
                "mean_frame_bytes": sum(map(len, pictures)) // len(pictures),
                "stored_frames_per_s": round(FRAMES / stored_s, 1),
                "analysed_frames_per_s": round(FRAMES / analysed_s, 1),
                "cpu_ms_per_frame_all_processes": round(used / FRAMES * 1000, 2),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "crow": version("crow-receiver"),
                "command": " ".join(sys.argv),
            }
        )
    )


def rendered() -> list[bytes]:
    """Pictures of the till camera."""
    renderer = Renderer(planned_scene(VIEWS["till"], 1, PICTURES), *SIZE)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    return [cv2.imencode(".jpg", renderer.picture(float(s)), quality)[1].tobytes() for s in range(PICTURES)]


def fill(spool_directory: Path, pictures: list[bytes]) -> None:
    """What a daemon has spooled while the receiver was away: a sample a second of each camera."""
    spool = Spool(spool_directory, SpoolLimits(64 << 30))
    begin_us = SystemClock().now_us() - FRAMES // CAMERAS * 1_000_000
    for start in range(0, FRAMES, 64):
        group = []
        for index in range(start, min(start + 64, FRAMES)):
            second, camera = divmod(index, CAMERAS)
            picture = pictures[second % len(pictures)]
            capture_us = begin_us + second * 1_000_000
            group.append(Frame.of_picture(f"cam{camera}", capture_us, TimeSource.ARRIVAL, *SIZE, picture))
        spool.append(group)
    spool.close()


def total(receiver: ReceiverService, field: str) -> int:
    """The sum of a count over all cameras, read in this process, whose time is not counted."""
    queue = EmbeddedQueue(receiver.directory / "queue.db", SystemClock())
    counted = overview(receiver.directory, queue)
    queue.close()
    return sum(getattr(camera, field) for camera in counted.cameras)


def waited(since: float, done: Callable[[], bool]) -> float:
    """Seconds from `since` until `done()`; looks every half second, which is the error."""
    while not done():
        time.sleep(0.5)
    return time.perf_counter() - since


def children_cpu_s() -> float:
    """User and system time of all ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
