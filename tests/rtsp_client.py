"""An RTSP client that sees every packet, where a player hides what it repairs."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from crow_sim.rtsp import RtspServer

_RTP = struct.Struct(">BBHII")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Packet:
    sequence: int
    timestamp: int
    ends_picture: bool
    payload: bytes
    ssrc: int = 0
    csrcs: tuple[int, ...] = ()
    extension: bytes = b""
    padding: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> "Packet":
        """RFC 3550 section 5.1."""
        flags, kind, sequence, timestamp, ssrc = _RTP.unpack_from(data)
        assert flags & 0xC0 == 0x80
        at = _RTP.size + 4 * (flags & 15)
        csrcs = struct.unpack(f">{flags & 15}I", data[_RTP.size : at])
        extension = b""
        if flags & 0x10:
            after = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
            extension, at = data[at:after], after
        end = len(data) - (data[-1] if flags & 0x20 else 0)
        return cls(sequence, timestamp, bool(kind & 0x80), data[at:end], ssrc, csrcs, extension, data[end:])


@dataclass(frozen=True)
class Report:
    wall_clock_s: float
    timestamp: int
    packets: int
    octets: int


class Client:
    """Speaks RTSP over one connection and keeps what comes interleaved."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.url = url
        self.reader = reader
        self.writer = writer
        self.packets: list[Packet] = []
        self.reports: list[Report] = []
        self.others: list[tuple[int, bytes]] = []  # (channel, packet) of neither video nor its reports

    async def ask(self, method: str, url: str = "", **headers: str) -> Answer:
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"{method} {url or self.url} RTSP/1.0\r\nCSeq: 7\r\n{fields}\r\n".encode())
        return await self._answer()

    async def play(self) -> Answer:
        transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
        assert (await self.ask("SETUP", f"{self.url}/track1", Transport=transport)).status == 200
        return await self.ask("PLAY")

    async def receive(self, pictures: int) -> list[Packet]:
        """Plays on until so many more pictures are complete; their packets, less any of a picture begun before."""
        before = len(self.packets)
        while sum(packet.ends_picture for packet in self.packets[before:]) < pictures:
            await self.receive_packet()
        return self.packets[before:]

    async def receive_packet(self) -> None:
        """Takes the next packet of whatever channel."""
        assert await self.reader.readexactly(1) == b"$"
        await self._interleaved()

    async def drain(self) -> None:
        """Takes what comes until the connection ends; raises what it ends with."""
        with suppress(asyncio.IncompleteReadError):
            await self.receive(1_000_000)

    async def _answer(self) -> Answer:
        while (first := await self.reader.readexactly(1)) == b"$":
            await self._interleaved()
        lines = (first + await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-1])}
        assert headers["cseq"] == "7"
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split()[1]), headers, body.decode())

    async def _interleaved(self) -> None:
        channel, size = struct.unpack(">BH", await self.reader.readexactly(3))
        data = await self.reader.readexactly(size)
        if channel == 0:
            self.packets.append(Packet.of(data))
        elif channel > 1:
            self.others.append((channel, data))
        else:
            _, kind, _, _, ntp, timestamp, packets, octets = struct.unpack(">BBHIQIII", data)
            assert kind == 200
            self.reports.append(Report(ntp / (1 << 32) - 2_208_988_800, timestamp, packets, octets))


@asynccontextmanager
async def connected(server: RtspServer, mount: str = "cam") -> AsyncIterator[Client]:
    url = server.url(mount)
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        yield Client(url, reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
