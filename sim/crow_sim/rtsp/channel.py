"""The two ways in which RTP reaches a client."""

import asyncio
import socket
from contextlib import suppress
from typing import Protocol

_MAX_WAITING_BYTES = 4 << 20  # a client that reads slower than the camera sends is waited for beyond this


class Channel(Protocol):
    """Carries the packets of one track."""

    transport: str  # the value of the Transport header that answers SETUP

    async def send(self, packets: list[bytes]) -> None:
        """Sends RTP packets."""
        ...

    def send_control(self, packet: bytes) -> None:
        """Sends an RTCP packet."""
        ...

    def send_garbage(self, garbage: bytes) -> None:
        """Sends what is no packet."""
        ...

    def close(self) -> None:
        """Gives back what the channel holds; the RTSP connection is not its own."""
        ...


class InterleavedChannel:
    """RTP within the RTSP connection (RFC 2326 section 10.12)."""

    def __init__(self, writer: asyncio.StreamWriter, rtp_number: int, rtcp_number: int) -> None:
        self._writer = writer
        self._rtp_number = rtp_number
        self._rtcp_number = rtcp_number
        self.transport = f"RTP/AVP/TCP;unicast;interleaved={rtp_number}-{rtcp_number}"

    async def send(self, packets: list[bytes]) -> None:
        """Sends RTP packets, waiting for a client that lags behind."""
        self._writer.write(b"".join(_interleaved(self._rtp_number, packet) for packet in packets))
        if self._writer.transport.get_write_buffer_size() > _MAX_WAITING_BYTES:
            await self._writer.drain()

    def send_control(self, packet: bytes) -> None:
        """Sends an RTCP packet."""
        self._writer.write(_interleaved(self._rtcp_number, packet))

    def send_garbage(self, garbage: bytes) -> None:
        """Puts bytes between two packets."""
        self._writer.write(garbage)

    def close(self) -> None:
        """Nothing is held."""


class UdpChannel:
    """RTP and RTCP as datagrams from a pair of ports of our own."""

    def __init__(self, host: str, client_host: str, rtp_port: int, rtcp_port: int) -> None:
        family = socket.AF_INET6 if ":" in client_host else socket.AF_INET
        self._rtp, self._rtcp = _bound(family, host), _bound(family, host)
        self._rtp.connect((client_host, rtp_port))
        self._rtcp.connect((client_host, rtcp_port))
        own = f"{self._rtp.getsockname()[1]}-{self._rtcp.getsockname()[1]}"
        self.transport = f"RTP/AVP;unicast;client_port={rtp_port}-{rtcp_port};server_port={own}"

    async def send(self, packets: list[bytes]) -> None:
        """Sends RTP packets; what the network does not take is lost, as UDP loses it."""
        for packet in packets:
            _datagram(self._rtp, packet)

    def send_control(self, packet: bytes) -> None:
        """Sends an RTCP packet."""
        _datagram(self._rtcp, packet)

    def send_garbage(self, garbage: bytes) -> None:
        """Sends a datagram that is no packet."""
        _datagram(self._rtp, garbage)

    def close(self) -> None:
        """Closes both ports."""
        self._rtp.close()
        self._rtcp.close()


def open_channel(transport: str, writer: asyncio.StreamWriter) -> Channel | None:
    """The channel that a SETUP's Transport header asks for, or None for one that is not offered (multicast)."""
    fields = dict(field.strip().partition("=")[::2] for field in transport.partition(",")[0].split(";"))
    if "multicast" in fields:
        return None
    if "RTP/AVP/TCP" in fields:
        return InterleavedChannel(writer, *_pair(fields.get("interleaved", "0-1")))
    if "client_port" in fields:
        host, client_host = writer.get_extra_info("sockname")[0], writer.get_extra_info("peername")[0]
        return UdpChannel(host, client_host, *_pair(fields["client_port"]))
    return None


def _interleaved(number: int, packet: bytes) -> bytes:
    return b"$" + bytes([number]) + len(packet).to_bytes(2, "big") + packet


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition("-")
    return int(first), int(second or int(first) + 1)


def _bound(family: socket.AddressFamily, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


def _datagram(sock: socket.socket, packet: bytes) -> None:
    # A full buffer loses what UDP may lose; that a client has gone shows on its RTSP connection.
    with suppress(BlockingIOError, ConnectionRefusedError):
        sock.send(packet)
