"""One client's RTSP connection, from accept to close."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress

from crow_sim.rtsp.auth import Gatekeeper
from crow_sim.rtsp.channel import Channel, InterleavedChannel, open_channel
from crow_sim.rtsp.player import End, Mount, Player
from crow_sim.rtsp.silence import play_silence
from crow_sim.rtsp.wire import AUDIO_TRACK, TRACK, Request, answer, read_request

_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
_HEADER_LINE = b"X-Filler: " + b"x" * 1000 + b"\r\n"
_CLOSE_WITHIN_S = 1.0
_UNASKED = (2, 3)  # the numbers of interleaved channels for what was not set up
_LINGER_RESETS = struct.pack("ii", 1, 0)


class Connection:
    """Reads requests and answers them; PLAY starts a player that lives until the connection ends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        mounts: Mapping[str, Mount],
        gatekeeper: Gatekeeper,
        seen: Callable[[Request], None],
        session_s: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._mounts = mounts
        self._gatekeeper = gatekeeper
        self._seen = seen
        self._session = f"{id(self):x}"
        self._session_s = session_s
        self._channels: dict[str, Channel] = {}  # by track
        self._playing: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serves the client until it leaves, a fault ends the connection, or the task is cancelled."""
        self._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (request := await self._next_request()) is not None:
                self._seen(request)
                if not await self._serve(request):
                    break
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError, ValueError):
            pass  # the client has gone, keeps nothing alive, or speaks something else
        finally:
            await self._close()

    async def _next_request(self) -> Request | None:
        """Waits for it no longer than the session lasts without one."""
        async with asyncio.timeout(self._session_s if self._playing else None):
            return await read_request(self._reader)

    async def _serve(self, request: Request) -> bool:
        """Answers one request; False ends the connection."""
        mount = self._mounts.get(request.mount)
        if mount is not None and mount.faults.silent:
            return True
        if request.method == "OPTIONS":
            self._answer(request, "200 OK", Public=_METHODS)
            return True
        challenge = self._gatekeeper.challenge_to(request)
        if challenge is None and mount is not None and mount.faults.refuse_auth:
            challenge = self._gatekeeper.challenge
        if challenge is not None:
            self._answer(request, "401 Unauthorized", **{"WWW-Authenticate": challenge})
        elif mount is None:
            self._answer(request, "404 Not Found")
        elif mount.redirects(request.method):
            self._answer(request, "302 Found", Location=mount.faults.redirect_to or "")
        elif request.method == "DESCRIBE":
            await self._describe(request, mount)
        elif request.method == "SETUP":
            self._setup(request)
        elif request.method == "PLAY":
            self._play(request, mount)
        elif request.method in {"TEARDOWN", "GET_PARAMETER"}:
            self._answer(request, "200 OK", Session=self._session)
        else:
            self._answer(request, "405 Method Not Allowed", Allow=_METHODS)
        return request.method != "TEARDOWN"

    async def _describe(self, request: Request, mount: Mount) -> None:
        if mount.faults.endless_headers:
            self._writer.write(answer(request, "200 OK").removesuffix(b"\r\n"))
            while True:  # until the client closes: then drain raises
                self._writer.write(_HEADER_LINE)
                await self._writer.drain()
                await asyncio.sleep(0.001)
        else:
            base = request.url.partition("?")[0].rstrip("/") + "/"
            self._answer(request, "200 OK", mount.media.sdp(mount.name), **{"Content-Base": base})

    def _setup(self, request: Request) -> None:
        channel = open_channel(request.headers.get("transport", ""), self._writer)
        if channel is None:
            self._answer(request, "461 Unsupported Transport")
            return
        if request.track in self._channels:
            self._channels[request.track].close()
        self._channels[request.track] = channel
        session = f"{self._session};timeout={self._session_s:.0f}"
        self._answer(request, "200 OK", Transport=channel.transport, Session=session)

    def _play(self, request: Request, mount: Mount) -> None:
        video = self._channels.get(TRACK)
        if video is None:
            self._answer(request, "455 Method Not Valid in This State")
            return
        headers = {"Session": self._session}
        if not self._playing:
            player = Player(mount, video)
            headers["RTP-Info"] = f"url={request.url.rstrip('/')}/{TRACK};{player.rtp_info}"
            self._playing.append(asyncio.create_task(self._run(player), name=f"rtsp-player-{mount.name}"))
            if mount.media.packing.audio:
                # Some cameras send it to those who did not ask, too.
                audio = self._channels.get(AUDIO_TRACK) or InterleavedChannel(self._writer, *_UNASKED)
                silence = play_silence(audio, mount.media.packing)
                self._playing.append(asyncio.create_task(silence, name=f"rtsp-silence-{mount.name}"))
        self._answer(request, "200 OK", **headers)

    async def _run(self, player: Player) -> None:
        with suppress(ConnectionError):  # the client has gone; the reading side sees it, too
            if await player.run() is End.RESET:
                sock = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESETS)
                self._writer.transport.abort()
            else:
                self._writer.close()

    def _answer(self, request: Request, status: str, body: str = "", /, **headers: str) -> None:
        self._writer.write(answer(request, status, headers, body))

    async def _close(self) -> None:
        """Gives everything back, even when it is cancelled on the way (the server stops while the client leaves)."""
        for playing in self._playing:
            playing.cancel()
        for channel in self._channels.values():
            channel.close()
        self._writer.close()
        try:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await self._writer.wait_closed()
            if self._playing:
                await asyncio.wait(self._playing)
        finally:
            self._writer.transport.abort()  # for a client that does not read what it is still owed
