"""RTSP messages (RFC 2326) as the server reads and writes them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

TRACK, AUDIO_TRACK = "track1", "track2"
_INTERLEAVED = b"$"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]

    @property
    def mount(self) -> str:
        """The path, without the track that SETUP adds to it."""
        return self._path.removesuffix(f"/{TRACK}").removesuffix(f"/{AUDIO_TRACK}")

    @property
    def track(self) -> str:
        """What SETUP is for."""
        return AUDIO_TRACK if self._path.endswith(f"/{AUDIO_TRACK}") else TRACK

    @property
    def _path(self) -> str:
        return unquote(urlsplit(self.url).path).strip("/")


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """What a test may ask about a request afterwards."""

    method: str
    url: str
    with_credentials: bool


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request, or None at the end of the connection; interleaved data (a client's RTCP) is passed over.

    Raises asyncio.IncompleteReadError or asyncio.LimitOverrunError for what is no request.
    """
    while first := await reader.read(1):
        if first == _INTERLEAVED:
            header = await reader.readexactly(3)
            await reader.readexactly(int.from_bytes(header[1:], "big"))
        elif first not in b"\r\n":
            lines = (first + await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "replace").split("\r\n")
            method, _, rest = lines[0].partition(" ")
            fields = (line.partition(":") for line in lines[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            await reader.readexactly(int(headers.get("content-length", 0)))
            return Request(method, rest.partition(" ")[0], headers)
    return None


def answer(request: Request, status: str, headers: Mapping[str, str] | None = None, body: str = "") -> bytes:
    """The bytes of an answer; a body is a session description."""
    fields = {"CSeq": request.headers.get("cseq", "0"), **(headers or {})}
    if body:
        fields |= {"Content-Type": "application/sdp", "Content-Length": str(len(body.encode()))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode()
