"""The RTSP server: mounts, clients, and what they asked for.

1. `stop` returns when every connection, task and socket of the server is gone.
2. Everything public but `start` and `stop` may be called from any thread.
"""

import asyncio
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from crow_shared.errors import CrowError, Kind
from crow_sim.rtsp.auth import Gatekeeper, Scheme
from crow_sim.rtsp.connection import Connection
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.media import Media, load_media
from crow_sim.rtsp.packing import Packing
from crow_sim.rtsp.player import Mount
from crow_sim.rtsp.wire import Request, SeenRequest

_BACKLOG = 512


class RtspServer:
    """Serves encoded files in a loop, each under its mount's name, to any number of clients.

    Without `user` everybody is let in; a nonce is good for `nonce_requests` requests (digest alone), for all of them by
    default. `port` 0 takes any free one. A client sees a clip from its beginning or, as with cameras, from somewhere
    on (`joined_anywhere`). One that asks for nothing in `session_s` seconds of playing is hung up.
    Raises CrowError for a file that cannot be served.
    """

    def __init__(
        self,
        mounts: Mapping[str, Path],
        *,
        user: str | None = None,
        password: str = "",
        auth: Scheme | None = "digest",
        nonce_requests: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        session_s: float = 60.0,
        packing: Packing | None = None,
        joined_anywhere: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self._packing = packing
        self._session_s = session_s
        self._loaded: dict[Path, Media] = {}
        self._mounts = {
            name: Mount(name, self._media(path), joined_anywhere=joined_anywhere) for name, path in mounts.items()
        }
        self._gatekeeper = Gatekeeper(auth if user is not None else None, user or "", password, nonce_requests)
        self._host = host
        self.port = port
        self.requests: list[SeenRequest] = []
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        for name in self._mounts:
            self.set_faults(name, faults or Faults())

    def url(self, mount: str, user: str | None = None, password: str = "") -> str:
        """The address of a mount; without `user` it holds no credentials."""
        credentials = "" if user is None else f"{quote(user, safe='')}:{quote(password, safe='')}@"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"rtsp://{credentials}{host}:{self.port}/{mount}"

    def set_faults(self, mount: str, faults: Faults) -> None:
        """Replaces the faults of a mount, also for those who play it now."""
        served = self._mounts[mount]
        served.replacement = None if faults.switch_to is None else self._media(Path(faults.switch_to))
        served.faults, served.spared = faults, 0

    def set_media(self, mount: str, path: Path) -> None:
        """Goes on with another file in mid-stream, as a camera that was reconfigured does."""
        self._mounts[mount].media = self._media(path)

    def players(self, mount: str) -> int:
        """How many clients play the mount now."""
        return self._mounts[mount].players

    async def start(self) -> None:
        """Listens; `port` is known from here on. Raises CrowError(UNAVAILABLE) when the port is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._listener = socket.create_server((self._host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            message = f"cannot listen on {self._host}:{self.port}: {error.strerror}"
            raise CrowError(Kind.UNAVAILABLE, "port_unavailable", message) from error
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def __aenter__(self) -> Self:
        """Starts."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops."""
        await self.stop()

    def _media(self, path: Path) -> Media:
        if path not in self._loaded:
            self._loaded[path] = load_media(path, self._packing)
        return self._loaded[path]

    def _seen(self, request: Request) -> None:
        self.requests.append(SeenRequest(request.method, request.url, "authorization" in request.headers))

    def _accept(self, listener: socket.socket) -> None:
        """Takes one client; not by asyncio.Server, which loses a client (and its socket) that comes during close()."""
        with suppress(BlockingIOError, ConnectionAbortedError):  # a client that has gone again already
            sock, _ = listener.accept()
            task = asyncio.create_task(self._serve(sock), name="rtsp-connection")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            task.add_done_callback(lambda _: sock.close())  # for a task that was cancelled before its first step

    async def _serve(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        await Connection(reader, writer, self._mounts, self._gatekeeper, self._seen, self._session_s).run()


class ThreadedRtspServer:
    """Runs an `RtspServer` on a thread of its own: `with ThreadedRtspServer(server): …` yields the running server."""

    def __init__(self, server: RtspServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rtsp-server")

    def __enter__(self) -> RtspServer:
        """Starts; raises what `RtspServer.start` raises."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        except CrowError:
            self._end()
            raise
        return self._server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the server and ends the thread."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
