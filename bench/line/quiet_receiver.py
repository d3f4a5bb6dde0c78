"""The whole receiver, as its command runs it, with an engine that never answers: every frame stays at "waiting".

Settings come from the environment, ports are free ones.
"""

import asyncio

import grpc
import party

import crow_receiver.app
from crow_receiver.cli.main import main
from crow_receiver.vision.engine_state import EngineState
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Analysis


class NeverAnswers:
    """In the place of the engines, without their worker processes."""

    slots = 1
    engine_name = "none"
    states: tuple[EngineState, ...] = ()

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to end."""

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        """One frame at a time."""
        return True

    async def describe(self, _: VisionRequest) -> Analysis:
        """Takes for ever."""
        await asyncio.Event().wait()
        raise AssertionError


class SaysItsPort(crow_receiver.app.Receiver):
    """Tells the port that gRPC has taken."""

    def _bound_grpc(self) -> tuple[grpc.aio.Server, int]:
        server, port = super()._bound_grpc()
        party.ready(port=port)
        return server, port


crow_receiver.app.assembled = lambda *_: NeverAnswers()  # type: ignore[assignment, attr-defined]
crow_receiver.app.Receiver = SaysItsPort  # type: ignore[misc]
main(["run"], prog_name="crow-receiver")
