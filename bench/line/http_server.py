"""What one would write first: a FastAPI route for multipart uploads that stores a frame as the receiver does.

Arguments: DIRECTORY. The same Store with its group commit, the same checks, the same rows and sessions; the answer
comes after the commit.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Annotated

import party
import uvicorn
from fastapi import FastAPI, Form, UploadFile

from crow_receiver.ingest.intake import Intake
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import BatchLimits
from crow_receiver.store import cameras
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.store import Store
from crow_shared.clock import SystemClock
from crow_shared.frame import Encoding, Frame, TimeSource
from crow_shared.identity import CameraKey


async def serve(directory: Path) -> None:
    """Serves until it is ended."""
    store, clock = Store(directory), SystemClock()
    sessions = SessionDirectory(store, clock, BatchLimits(10, 30), 300, lambda: None, lambda: None)
    intake = Intake(store, sessions, clock, 300_000_000)
    known: dict[str, CameraRow] = {}
    app = FastAPI()

    @app.post("/frames")
    async def accept(
        file: UploadFile,
        camera_id: Annotated[str, Form()],
        seq: Annotated[int, Form()],
        capture_us: Annotated[int, Form()],
        crc32: Annotated[int, Form()],
    ) -> dict[str, int]:
        camera = known.get(camera_id)
        if camera is None:
            key = CameraKey("local", "shop", camera_id)
            camera = known[camera_id] = await store.write(lambda tx: cameras.announce(tx.db, key, camera_id, 1000))
        payload = await file.read()
        frame = Frame(camera_id, capture_us, TimeSource.ARRIVAL, Encoding.JPEG, 1, 1, payload, crc32, seq)
        stored = await intake.single_frame(camera, "bench", frame)
        return {"frame_index": stored.frame_index}

    listening = socket.create_server(("127.0.0.1", 0))
    party.ready(port=listening.getsockname()[1])
    await uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).serve(sockets=[listening])
    await sessions.stop()
    store.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
