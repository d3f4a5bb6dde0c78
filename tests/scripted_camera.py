"""A camera that answers as a test says, byte by byte, and keeps what it was asked."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crow_daemon.registry.url import CameraUrl

Respond = Callable[[socket.socket, str, int], None]


@contextmanager
def camera(respond: Respond) -> Iterator[tuple[CameraUrl, list[str]]]:
    """A camera that answers each request by `respond(connection, request, number from 1)`."""
    requests: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while request := connection.recv(8192).decode("latin-1"):
                        requests.append(request)
                        respond(connection, request, len(requests))
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield CameraUrl.parse(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream?a=b"), requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
