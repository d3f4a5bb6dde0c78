"""A real HTTP server on loopback that gives files out, well or badly."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class FileServer:
    """What it serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    status: int = 200
    cut_after_bytes: list[int] = field(default_factory=list)  # one per request; then no more cuts
    says_length: bool = True
    says_range: str | None = None  # in place of the true Content-Range
    hangs_up: int = 0  # requests that are left without an answer
    stalls: bool = False  # where it would cut
    ended: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of each request
    url: str = ""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs for as long as the context does."""
    served = FileServer()

    class Handler(_Handler):
        state: ClassVar[FileServer] = served

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            served.ended.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[FileServer]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.state.asked.append((self.path, wanted))
        if self.state.hangs_up:
            self.state.hangs_up -= 1
            return
        if self.path in self.state.redirects:
            self.send_response(302)
            self.send_header("Location", self.state.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.state.files.get(self.path)
        if body is None or self.state.status != 200:
            self.send_response(404 if body is None else self.state.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1)) if wanted and self.state.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
        elif start:
            self.send_response(206)
            true_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", self.state.says_range or true_range)
        else:
            self.send_response(200)
        rest = body[start:]
        if self.state.says_length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut_bytes = self.state.cut_after_bytes.pop(0) if self.state.cut_after_bytes else len(rest)
        with suppress(ConnectionError):  # the client has seen enough
            self.wfile.write(rest[:cut_bytes])
        if self.state.stalls and cut_bytes < len(rest):
            self.state.ended.wait()

    def log_message(self, *_: object) -> None:
        """Says nothing."""
