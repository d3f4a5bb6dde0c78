"""A real HTTP server on loopback with the OpenAI API, which answers rightly or misbehaves as it is told."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

SCENE = {
    "people": [{"role": "customer", "zone": "Snacks", "activity": "browsing", "movement": "still", "confidence": 0.8}],
    "interactions": [],
    "queue_length": None,
    "confidence": 0.7,
    "description": "One customer stands at the snacks and looks at the shelf.",
}
Fault = Callable[["_Handler"], None]


@dataclass
class OpenAiServer:
    """What it does next, and what it was asked.

    `faults` are for the next questions, one each; then `fault` is for all of them, if there is one. `gate` holds every
    question back while it is closed.
    """

    faults: list[Fault] = field(default_factory=list)
    fault: Fault | None = None
    models_status: int = 200
    scene: dict[str, Any] = field(default_factory=lambda: dict(SCENE))
    text: str | None = None  # in place of the scene
    finish_reason: str = "stop"
    gate: threading.Event = field(default_factory=threading.Event)
    questions: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    checks: int = 0
    under_way: int = 0
    most_under_way: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(certificate: tuple[str, str] | None = None, port: int = 0) -> Iterator[OpenAiServer]:
    """A server that runs for as long as the context does; `certificate` and key are PEM files, for https."""
    served = OpenAiServer()
    served.gate.set()

    class Handler(_Handler):
        state: ClassVar[OpenAiServer] = served
        lock: ClassVar[threading.Lock] = threading.Lock()

    with _Server(("127.0.0.1", port), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        served.url = f"http{'s' * bool(certificate)}://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield served
        finally:
            served.ended.set()
            served.gate.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    state: ClassVar[OpenAiServer]
    lock: ClassVar[threading.Lock]

    def do_GET(self) -> None:
        assert self.path == "/v1/models", self.path
        self.state.checks += 1
        self.answer(self.state.models_status, b'{"object":"list","data":[{"id":"shop-model"}]}')

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions", self.path
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = self.state
        with self.lock:
            state.questions.append(question)
            state.headers.append(dict(self.headers))
            state.under_way += 1
            state.most_under_way = max(state.most_under_way, state.under_way)
            fault = state.faults.pop(0) if state.faults else state.fault
        try:
            state.gate.wait()
            if fault is not None:
                fault(self)
            else:
                self.answer(200, completion(state))
        finally:
            with self.lock:
                state.under_way -= 1

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        with suppress(ConnectionError, ssl.SSLError):  # the client has gone
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def completion(state: OpenAiServer) -> bytes:
    text = json.dumps(state.scene) if state.text is None else state.text
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": state.finish_reason}
    tokens = {"prompt_tokens": 700, "completion_tokens": 90, "total_tokens": 790}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": tokens}).encode()


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda handler: handler.answer(code, body, **headers)


def saying(text: str) -> Fault:
    """An answer whose text is this, in place of a scene."""
    return lambda handler: handler.answer(200, completion(OpenAiServer(text=text)))


def babbling(words: str) -> Fault:
    """Says too much where the reason of a failure belongs."""

    def fault(handler: _Handler) -> None:
        handler.send_response(500, words)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def stammering(words: str) -> Fault:
    """Says what is no HTTP."""

    def fault(handler: _Handler) -> None:
        handler.wfile.write(f"HTTP/1.1 {words}\r\n\r\n".encode())
        handler.close_connection = True

    return fault


def cut_off(handler: _Handler) -> None:
    """Closes in the middle of the answer."""
    body = completion(handler.state)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def hung_up(handler: _Handler) -> None:
    """Closes without an answer."""
    handler.close_connection = True


def never(handler: _Handler) -> None:
    """Never answers."""
    handler.state.ended.wait()
    handler.close_connection = True


def dripping(handler: _Handler) -> None:
    """Answers a byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(ConnectionError):
        while not handler.state.ended.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    handler.close_connection = True


def huge(handler: _Handler) -> None:
    """Answers with more than anybody would read."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 40))
    handler.end_headers()
    with suppress(ConnectionError):
        while not handler.state.ended.is_set():
            handler.wfile.write(b" " * 65536)
    handler.close_connection = True


def slow(seconds: float) -> Fault:
    def fault(handler: _Handler) -> None:
        time.sleep(seconds)
        handler.answer(200, completion(handler.state))

    return fault
