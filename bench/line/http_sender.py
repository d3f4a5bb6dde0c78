"""Frames from memory as multipart uploads over kept-alive connections.

Arguments: PORT PICTURES FRAMES CONCURRENCY CAMERAS FIRST_CAMERA.
"""

import asyncio
import sys
import time
from pathlib import Path
from zlib import crc32

import aiohttp
import party
import pictures


async def send(port: int, directory: Path, frames: int, concurrency: int, cameras: int, first_camera: int) -> None:
    """Keeps `concurrency` uploads under way."""
    payloads = [(payload, str(crc32(payload))) for payload in pictures.load(directory)]
    begin_us = time.time_ns() // 1000 - frames // cameras * 1_000_000
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
        party.ready()
        party.wait_for_go()
        watch = party.Stopwatch()
        numbers = iter(range(frames))

        async def one_line() -> None:
            for number in numbers:
                second, camera = divmod(number, cameras)
                payload, checksum = payloads[number % len(payloads)]
                form = aiohttp.FormData()
                form.add_field("camera_id", f"cam{first_camera + camera}")
                form.add_field("seq", str(second + 1))
                form.add_field("capture_us", str(begin_us + second * 1_000_000))
                form.add_field("crc32", checksum)
                form.add_field("file", payload, filename="frame.jpg", content_type="image/jpeg")
                watch.sent(number)
                async with client.post("/frames", data=form) as answer:
                    answer.raise_for_status()
                    await answer.read()
                watch.durable(number)

        await asyncio.gather(*(one_line() for _ in range(concurrency)))
        watch.report()


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])))
