"""What a daemon has spooled while its receiver was away: a sample a second of each camera."""

from pathlib import Path

import pictures

from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.clock import SystemClock
from crow_shared.frame import Frame, TimeSource

GROUP = 64


def fill(spool_directory: Path, payloads: list[bytes], frames: int, cameras: int, first_camera: int) -> None:
    """Spools the frames, cameras in turn."""
    spool = Spool(spool_directory, SpoolLimits(64 << 30))
    begin_us = SystemClock().now_us() - frames // cameras * 1_000_000
    group: list[Frame] = []
    for number in range(frames):
        second, camera = divmod(number, cameras)
        capture_us = begin_us + second * 1_000_000
        payload = payloads[number % len(payloads)]
        camera_id = f"cam{first_camera + camera}"
        group.append(
            Frame.of_picture(camera_id, capture_us, TimeSource.ARRIVAL, pictures.WIDTH, pictures.HEIGHT, payload)
        )
        if len(group) == GROUP:
            spool.append(group)
            group.clear()
    if group:
        spool.append(group)
    spool.close()
