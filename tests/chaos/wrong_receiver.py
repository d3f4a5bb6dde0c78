"""The receiver with one thing wrong on purpose: a frame is acknowledged before its transaction is committed."""

import asyncio

from crow_receiver.cli.main import main
from crow_receiver.ingest.grpc_service import IngestService

store_then_acknowledge = IngestService._frame


async def acknowledge_then_store(self, stream, request) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    stream.protocol.durable(request.frame.camera_id, request.frame.seq, frames=0)
    stream.progress.set()
    await asyncio.sleep(0.3)
    await store_then_acknowledge(self, stream, request)


IngestService._frame = acknowledge_then_store  # type: ignore[method-assign]
main(prog_name="crow-receiver")
