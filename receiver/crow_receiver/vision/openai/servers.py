"""All servers together: the least loaded one that stands well gets the next frame.

Invariants
1. A frame has a place at one server at a time, and gives it back whatever comes of it.
2. Nothing waits here for longer than `PATIENCE_S`: the database is where frames wait.
"""

import asyncio
from collections.abc import Sequence

from crow_receiver.vision.openai.server import Server, ServerFailure
from crow_receiver.vision.openai.standing import Standing
from crow_shared.errors import CrowError, Kind

PATIENCE_S = 10.0
_LOOK_S = 0.5  # between two looks at whose health is to be asked after


class Servers:
    """The servers and how they stand. Everything here runs in one event loop."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._standings = {server: Standing(server.endpoint.max_in_flight) for server in servers}
        self._changed = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why no server takes frames; None while one does. Any thread may look."""
        reasons = [standing.out_because for standing in self._standings.values()]
        return "; ".join(reason for reason in reasons if reason) if all(reasons) else None

    async def take(self, avoid: frozenset[Server]) -> Server:
        """A place at a server, not at one of `avoid` if another will do; `give_back` it.

        Raises CrowError(UNAVAILABLE) "no_endpoint" when all are out, or none has had room for `PATIENCE_S`.
        """
        server = await self._with_room(avoid)
        self._standings[server].in_flight += 1
        return server

    def give_back(self, server: Server) -> None:
        """The place is free again."""
        self._standings[server].in_flight -= 1
        self._tell()

    def answered(self, server: Server) -> None:
        """A server answered a frame."""
        self._standings[server].answered(_now_s())
        self._tell()

    def failed(self, server: Server, failure: ServerFailure, *, again: bool) -> None:
        """A server failed at a frame, `again` if at the same one as before."""
        self._standings[server].failed(failure, _now_s(), again=again)
        self._tell()

    async def watch(self) -> None:
        """Asks after the health of servers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server, standing in self._standings.items():
                group.create_task(self._watch(server, standing))

    async def _watch(self, server: Server, standing: Standing) -> None:
        while True:
            if standing.is_to_be_checked(_now_s()):
                try:
                    await server.check()
                except ServerFailure as failure:
                    standing.checked(failure, _now_s())
                else:
                    standing.checked(None, _now_s())
                self._tell()
            await asyncio.sleep(_LOOK_S)

    async def _with_room(self, avoid: frozenset[Server]) -> Server:
        until_s = _now_s() + PATIENCE_S
        while (trouble := self.trouble) is None:
            now_s = _now_s()
            takes = {
                server: from_s
                for server, standing in self._standings.items()
                if (from_s := standing.takes_from_s(now_s)) is not None
            }
            at_once = [server for server, from_s in takes.items() if from_s <= now_s]
            if at_once:
                return min(at_once, key=lambda server: (server in avoid, self._standings[server].load))
            if now_s >= until_s:
                raise CrowError(Kind.UNAVAILABLE, "no_endpoint", f"no server had room within {PATIENCE_S:g} s")
            await self._change(min([until_s, *takes.values()]) - now_s)
        raise CrowError(Kind.UNAVAILABLE, "no_endpoint", f"no server takes frames: {trouble}")

    async def _change(self, most_s: float) -> None:
        try:
            async with asyncio.timeout(most_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _tell(self) -> None:
        """Wakes those who wait for room."""
        self._changed.set()
        self._changed = asyncio.Event()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
