"""Frames from memory as multipart uploads over kept-alive connections.

Arguments: PORT PICTURES FRAMES CONCURRENCY CAMERAS FIRST_CAMERA.
"""

import asyncio
import sys
import time
from pathlib import Path
from zlib import crc32

import httpx
import party
import pictures


async def send(port: int, directory: Path, frames: int, concurrency: int, cameras: int, first_camera: int) -> None:
    """Keeps `concurrency` uploads under way."""
    payloads = [(payload, str(crc32(payload))) for payload in pictures.load(directory)]
    begin_us = time.time_ns() // 1000 - frames // cameras * 1_000_000
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as client:
        party.ready()
        party.wait_for_go()
        watch = party.Stopwatch()
        numbers = iter(range(frames))

        async def one_line() -> None:
            for number in numbers:
                second, camera = divmod(number, cameras)
                payload, checksum = payloads[number % len(payloads)]
                fields = {
                    "camera_id": f"cam{first_camera + camera}",
                    "seq": str(second + 1),
                    "capture_us": str(begin_us + second * 1_000_000),
                    "crc32": checksum,
                }
                watch.sent(number)
                answer = await client.post("/frames", data=fields, files={"file": ("frame.jpg", payload, "image/jpeg")})
                answer.raise_for_status()
                watch.durable(number)

        await asyncio.gather(*(one_line() for _ in range(concurrency)))
        watch.report()


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])))
