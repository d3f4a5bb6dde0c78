"""One frame: asked of a server, of another one where that fails, until there is an answer or a reason.

Where the frame itself may be why (the server took it, and failed at it) the end is "endpoint_failed"; where the servers
would have failed at any frame it is "no_endpoint".
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crow_receiver.vision.answers import scene_of
from crow_receiver.vision.openai.server import Fault, Reply, Server, ServerFailure
from crow_receiver.vision.openai.servers import Servers
from crow_receiver.vision.schema import Scene
from crow_receiver.vision.usage import Usage
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import Zone

TRIES = 3
ANSWERS = 2  # that are not of the schema, before the frame fails
PAUSE_FIRST_S = 0.25
_ONCE_MORE = {"temperature": 0.5}  # at 0 a server would say the same again


@dataclass(frozen=True, slots=True)
class Described:
    """What a server said."""

    scene: Scene
    usage: Usage
    model: str


async def describe(
    servers: Servers,
    question: dict[str, Any],
    areas: Sequence[Zone],
    give_up_s: float,
    products: Sequence[str] = (),
) -> Described:
    """What the servers say of a frame.

    Raises CrowError: INTERNAL "answer_invalid" or "answer_truncated" when that is twice not of the schema or without an
    end, UNAVAILABLE "endpoint_failed" or "no_endpoint", TIMEOUT "endpoint_failed" after `give_up_s`.
    """
    tries = _Tries(servers)
    try:
        async with asyncio.timeout(give_up_s):
            return await tries.described(question, areas, products)
    except TimeoutError:
        raise tries.error(Kind.TIMEOUT, f"no answer within {give_up_s:g} s") from None


class _Tries:
    """What has been tried for one frame."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._failed: set[Server] = set()
        self._failures = 0
        self._frame_may_be_why = False
        self._last = ""

    def error(self, kind: Kind, why: str) -> CrowError:
        """The error to end with."""
        code = "endpoint_failed" if self._frame_may_be_why else "no_endpoint"
        return CrowError(kind if self._frame_may_be_why else Kind.UNAVAILABLE, code, why + self._last)

    async def described(self, question: dict[str, Any], areas: Sequence[Zone], products: Sequence[str]) -> Described:
        invalid = 0
        while True:
            reply, model = await self._reply(question | _ONCE_MORE if invalid else question, seed=invalid)
            try:
                scene = _scene(reply, areas, products)
            except CrowError:
                invalid += 1
                if invalid == ANSWERS:
                    raise
                continue
            usage = Usage(prompt_tokens=reply.prompt_tokens, answer_tokens=reply.answer_tokens)
            return Described(scene, usage, model)

    async def _reply(self, question: dict[str, Any], seed: int) -> tuple[Reply, str]:
        while True:
            try:
                server = await self._servers.take(avoid=frozenset(self._failed))
            except CrowError as error:
                raise self.error(error.kind, error.message) from None
            try:
                reply = await server.ask(question, seed)
            except ServerFailure as failure:
                self._note(server, failure)
            else:
                self._servers.answered(server)
                return reply, server.endpoint.model
            finally:
                self._servers.give_back(server)
            if self._failures == TRIES:
                raise self.error(Kind.UNAVAILABLE, f"{TRIES} tries failed")
            await asyncio.sleep(PAUSE_FIRST_S * 2**self._failures * random.uniform(0.5, 1))  # noqa: S311 — jitter

    def _note(self, server: Server, failure: ServerFailure) -> None:
        self._servers.failed(server, failure, again=server in self._failed)
        self._failures += 1
        self._failed.add(server)
        self._frame_may_be_why |= failure.fault is Fault.UNCLEAR
        self._last = f"; the last: {failure.why}"


def _scene(reply: Reply, areas: Sequence[Zone], products: Sequence[str]) -> Scene:
    if not reply.complete:
        raise CrowError(
            Kind.INTERNAL, "answer_truncated", f"the answer did not end within {reply.answer_tokens} tokens"
        )
    return scene_of(reply.text, areas, products)
