"""The engine that asks servers with the OpenAI API: vLLM, llama-server, Ollama and the like.

Invariants
1. One event loop in a thread of its own does all I/O. `begin`, `step` and `abort` are called from another thread, and
   share nothing with it but a queue of what ended.
2. A frame that was aborted is not told of, whenever its answer comes.
"""

import asyncio
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress

from crow_receiver.vision.openai.frame import Described, describe
from crow_receiver.vision.openai.options import OpenAiOptions
from crow_receiver.vision.openai.question import question_of
from crow_receiver.vision.openai.server import Server
from crow_receiver.vision.openai.servers import Servers
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import Finished, VisionRequest
from crow_receiver.vision.prompt import Prompt
from crow_receiver.vision.usage import Usage
from crow_receiver.vision.zones import areas
from crow_shared.errors import CrowError


class OpenAiEngine:
    """Describes frames by the models of other machines."""

    name = "openai"
    model: str | None = None  # each answer says its own
    model_sha256: str | None = None
    quantization: str | None = None
    limits: tuple[str, ...] = (
        "sees one frame at a time: what happened between two frames is not known to it",
        "zones are told from where feet are in the picture, and movement from posture alone",
        "cannot tell who crosses a line",
        "confidence is the model's own word, not a measured probability",
        "which weights a server runs under the model's name is not known here",
    )

    def __init__(self, options: OpenAiOptions, prompt: Prompt) -> None:
        """Raises CrowError(INVALID) for a server that cannot be asked as the settings say. Asks none yet."""
        self._options = options
        self._prompt = prompt
        self.prompt_version: str | None = prompt.version
        self.slots = sum(endpoint.max_in_flight for endpoint in options.endpoints)
        self.least_side = (options.long_side, options.long_side)
        self._loop = asyncio.new_event_loop()
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._under_way: dict[int, Future[Described]] = {}
        self._servers = Servers([Server(endpoint) for endpoint in options.endpoints])
        threading.Thread(target=self._loop.run_forever, name="openai", daemon=True).start()
        self._watching = asyncio.run_coroutine_threadsafe(self._servers.watch(), self._loop)

    @property
    def trouble(self) -> str | None:
        """Why no server takes frames at present."""
        return self._servers.trouble

    def begin(self, key: int, request: VisionRequest, picture: Pixels) -> None:
        """Asks a server about the frame."""
        options = self._options
        question = question_of(request, picture, self._prompt, options.long_side, options.max_tokens)
        products = request.brief.products
        asking = describe(self._servers, question, areas(request.zones), options.give_up_s, products)
        self._under_way[key] = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._under_way[key].add_done_callback(lambda _: self._ended.put(key))

    def step(self, wait_s: float) -> list[Finished]:
        """The frames that have ended, the first of which is waited for.

        Raises what broke the asking or the watching, if that is no CrowError: a defect.
        """
        if self._watching.done():
            self._watching.result()
        keys = []
        with suppress(queue.Empty):
            keys.append(self._ended.get(timeout=wait_s))
            while True:
                keys.append(self._ended.get_nowait())
        ended = [(key, self._under_way.pop(key, None)) for key in keys]
        return [_finished(key, asked) for key, asked in ended if asked is not None]

    def abort(self, key: int) -> None:
        """Breaks off with the server and forgets the frame."""
        asking = self._under_way.pop(key, None)
        if asking is not None:
            asking.cancel()


def _finished(key: int, asked: "Future[Described]") -> Finished:
    try:
        said = asked.result()
    except CrowError as error:
        return Finished(key, error, Usage())
    return Finished(key, said.scene, said.usage, said.model)
