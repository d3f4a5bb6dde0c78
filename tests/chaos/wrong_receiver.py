"""The receiver with one thing wrong on purpose: a frame is acknowledged before its transaction is committed."""

import asyncio

from crow_receiver.cli.main import main
from crow_receiver.ingest.grpc_service import IngestService

store_soon = IngestService._store_soon


def acknowledge_then_store(self, stream, one) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    stream.protocol.durable(one.camera.key.camera_id, one.to_seq, frames=0)
    stream.progress.set()
    asyncio.get_running_loop().call_later(0.3, store_soon, self, stream, one)


IngestService._store_soon = acknowledge_then_store  # type: ignore[method-assign]
main(prog_name="crow-receiver")
