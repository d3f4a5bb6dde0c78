"""A camera's RTP packets, over TCP or UDP.

Invariants
1. Packets are taken from the camera's address alone, and from the ports that it told if it told any; nothing is sent
   elsewhere.
2. They are given in the order of their sequence numbers. Over TCP that is how they come; over UDP one that came before
   its turn is held for those before it until the next look, and then given in spite of the hole.
3. What is held is bounded: over TCP by one packet or answer, over UDP by `_MOST_AHEAD` packets. So is what is taken at
   one look, by `_LOOK_BYTES`: the rest of a flood waits, or is dropped by the system.
"""

import contextlib
import re
import secrets
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from crow_daemon.registry.camera import Transport
from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.message import BEGINS, next_answer
from crow_daemon.rtsp.rtp import receiver_report
from crow_daemon.rtsp.sdp import VideoDescription
from crow_daemon.rtsp.session import INTERLEAVED, RtspSession
from crow_shared.errors import CrowError, Kind

_RECEIVE_BYTES = 256 << 10
_LOOK_BYTES = 4 << 20  # four looks a second: more than any camera sends
_MAX_GARBAGE_BYTES = 1 << 20  # in a row
_DOLLAR = ord("$")
_FRAME_BYTES = 4  # "$", channel, length
_SERVER_PORTS = re.compile(r"server_port=([0-9]{1,5})-([0-9]{1,5})", re.IGNORECASE)
_PORT_PAIRS = 50  # tried, until two ports side by side are free
_DATAGRAM_BUFFER_BYTES = 4 << 20  # the kernel gives what it may
_MAX_DATAGRAM_BYTES = 1 << 16
_DATAGRAM_COST_BYTES = 1 << 10  # a smaller one costs as much time as one of this size
_REPORT_EVERY_S = 5.0
_PUNCH = bytes([0x80, 0x7F]) + bytes(10)  # an RTP packet of nothing: lets a firewall know that answers are awaited
_SEQUENCE_ENDS = 4  # byte of an RTP packet
_LATE = 0x8000  # a sequence number that is so far ahead is one of the past
_MOST_AHEAD = 512


class Batch(NamedTuple):
    """What has come: packets; an empty one among the RTP packets stands for bytes that were none."""

    rtp: list[bytes]
    rtcp: list[bytes]


class CameraStream(ABC):
    """One stream. Used by one thread at a time; the connection may be interrupted by any."""

    def __init__(self, connection: RtspConnection, transport: str) -> None:
        """`connection` is connected; `transport` is a value of the Transport header."""
        self._session = RtspSession(connection, transport)
        self._socket: socket.socket | None = None  # once it plays
        self._received = bytearray()
        self._over = False
        self.heard_s = 0.0  # when the camera last sent something, by the monotonic clock

    def begin(self) -> VideoDescription:
        """Lets the camera play. Raises CrowError, with what is wrong with camera, login or stream."""
        video = self._session.begin()
        self._socket, early = self._session.stream()
        self._received += early
        self.heard_s = time.monotonic()
        return video

    def packets(self) -> Batch:
        """What has come since.

        Raises CrowError, among others UNAVAILABLE "stream_lost" when the camera has ended the stream.
        """
        if self._over:
            raise self._session.lost("ended the stream")
        self._receive()
        return self._taken()

    def tend(self, source: int | None, highest_sequence: int) -> None:
        """Lets the camera hear from us, when it is time: of which source (SSRC) we hear, and up to where.

        Raises CrowError.
        """
        self._session.tend(time.monotonic(), source, highest_sequence)

    def close(self) -> None:
        """Takes leave."""
        self._session.end()

    @abstractmethod
    def _taken(self) -> Batch:
        """The packets out of what was received."""

    def _receive(self) -> None:
        """Takes in what has come on the RTSP connection."""
        assert self._socket is not None, "begin comes first"
        room = _LOOK_BYTES
        while room > 0:
            try:
                came = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                came = b""
            self._over = not came
            if self._over:
                return
            self._received += came
            room -= len(came)
            self.heard_s = time.monotonic()

    def _pass_answer(self) -> bool:
        """Passes over an answer at the beginning of what was received; False when there is no whole one yet."""
        found = next_answer(self._received, 0, len(self._received))
        if found is None:
            return False
        answer, end = found
        del self._received[:end]
        self._session.answered(answer)
        return True


class TcpStream(CameraStream):
    """Packets within the RTSP connection."""

    def __init__(self, connection: RtspConnection) -> None:
        """`connection` is connected."""
        super().__init__(connection, INTERLEAVED)
        self._garbage_bytes = 0

    def _taken(self) -> Batch:
        batch = Batch([], [])
        while self._walk(batch):
            if BEGINS.startswith(self._received[: len(BEGINS)]):
                if not self._pass_answer():
                    break
            else:
                batch.rtp.append(b"")
                if not self._pass_garbage():
                    break
        return batch

    def _walk(self, batch: Batch) -> bool:
        """Takes packets while they follow one another; whether something else comes then."""
        data, at, end = bytes(self._received), 0, len(self._received)
        rtp_channel, rtcp_channel = self._session.channels
        something_else = False
        while at + _FRAME_BYTES <= end:
            if data[at] != _DOLLAR:
                something_else = True
                break
            following = at + _FRAME_BYTES + (data[at + 2] << 8 | data[at + 3])
            if following > end:
                break
            channel = data[at + 1]
            if channel == rtp_channel:
                batch.rtp.append(data[at + _FRAME_BYTES : following])
                self._garbage_bytes = 0
            elif channel == rtcp_channel:
                batch.rtcp.append(data[at + _FRAME_BYTES : following])
            at = following
        del self._received[:at]
        return something_else

    def _pass_garbage(self) -> bool:
        """Passes over what is no packet, up to where packets follow one another; False when more has to come first."""
        received, at = self._received, 1
        while (at := received.find(b"$", at)) >= 0:
            if at + _FRAME_BYTES > len(received):
                break
            end = at + _FRAME_BYTES + (received[at + 2] << 8 | received[at + 3])
            if received[at + 1] in self._session.channels and (end >= len(received) or received[end] == _DOLLAR):
                break
            at += 1
        passed = at if at >= 0 else len(received)
        self._garbage_bytes += passed
        del received[:passed]
        if self._garbage_bytes > _MAX_GARBAGE_BYTES:
            raise CrowError(Kind.CORRUPT, "not_rtsp", f"{self._session.where} sends what is no stream")
        return at >= 0


class UdpStream(CameraStream):
    """Packets as datagrams to two ports of ours."""

    def __init__(self, connection: RtspConnection) -> None:
        """`connection` is connected, and says which of our addresses the camera reaches."""
        own, self._peer = connection.addresses
        self._rtp, self._rtcp = _port_pair(own)
        ports = f"{self._rtp.getsockname()[1]}-{self._rtcp.getsockname()[1]}"
        super().__init__(connection, f"RTP/AVP;unicast;client_port={ports}")
        self._reported_s = 0.0
        self._own_source = secrets.randbits(32)
        self._expected: int | None = None
        self._ahead: dict[int, bytes] = {}  # by sequence number

    def begin(self) -> VideoDescription:
        """Lets the camera play. Raises CrowError."""
        video = super().begin()
        self._connect()
        self._tell(self._rtp, _PUNCH)
        return video

    def tend(self, source: int | None, highest_sequence: int) -> None:
        """See `CameraStream`; the report goes its own way."""
        now_s = time.monotonic()
        self._session.tend(now_s, None, 0)
        if source is not None and now_s - self._reported_s >= _REPORT_EVERY_S:
            self._reported_s = now_s
            self._tell(self._rtcp, receiver_report(self._own_source, source, highest_sequence))

    def close(self) -> None:
        """Takes leave and gives the ports back."""
        super().close()
        self._rtp.close()
        self._rtcp.close()

    def _connect(self) -> None:
        """Takes datagrams from the ports alone that the camera told."""
        if ports := _SERVER_PORTS.search(self._session.transport):
            for sock, port in ((self._rtp, ports[1]), (self._rtcp, ports[2])):
                with contextlib.suppress(OSError, OverflowError):  # no port that can be: the address still counts
                    sock.connect((self._peer, int(port)))

    def _tell(self, sock: socket.socket, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # where it told no port; and its datagrams may reach us all the same
            sock.send(packet)

    def _taken(self) -> Batch:
        while self._received and self._pass_answer():
            pass
        waited = set(self._ahead)
        batch = Batch([], list(self._datagrams(self._rtcp)))
        for datagram in self._datagrams(self._rtp):
            if len(datagram) > _SEQUENCE_ENDS:
                batch.rtp.extend(self._in_order(datagram))
        if waited & self._ahead.keys() or len(self._ahead) > _MOST_AHEAD:
            batch.rtp.extend(self._all_ahead())
        return batch

    def _datagrams(self, sock: socket.socket) -> Iterator[bytes]:
        room = _LOOK_BYTES
        while room > 0:
            room -= _DATAGRAM_COST_BYTES
            try:
                datagram, sender = sock.recvfrom(_MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP message about what was sent
                continue
            room -= max(0, len(datagram) - _DATAGRAM_COST_BYTES)
            if sender[0] == self._peer:
                self.heard_s = time.monotonic()
                yield datagram

    def _in_order(self, packet: bytes) -> Iterator[bytes]:
        sequence = int.from_bytes(packet[2:4], "big")
        if self._expected is None:
            self._expected = sequence
        if sequence != self._expected:
            if (sequence - self._expected) & 0xFFFF < _LATE:
                self._ahead[sequence] = packet
            return
        yield packet
        self._expected = (sequence + 1) & 0xFFFF
        while (following := self._ahead.pop(self._expected, None)) is not None:
            yield following
            self._expected = (self._expected + 1) & 0xFFFF

    def _all_ahead(self) -> Iterator[bytes]:
        assert self._expected is not None, "something was expected when they came"
        expected = self._expected
        for sequence in sorted(self._ahead, key=lambda number: (number - expected) & 0xFFFF):
            yield self._ahead.pop(sequence)
            self._expected = (sequence + 1) & 0xFFFF


def camera_stream(transport: Transport, connection: RtspConnection) -> CameraStream:
    """The stream of a camera that has been connected to. Raises CrowError(UNAVAILABLE) without ports for UDP."""
    return UdpStream(connection) if transport is Transport.UDP else TcpStream(connection)


def _port_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Two sockets on an even port and the next one (RFC 3550 section 11)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_PORT_PAIRS):
        rtp, rtcp = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.bind((host, 0))
            port = rtp.getsockname()[1]
            if port % 2 == 0:
                rtcp.bind((host, port + 1))
                for sock in (rtp, rtcp):
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER_BYTES)
                return rtp, rtcp
        except OSError:
            pass  # the next port is taken
        rtp.close()
        rtcp.close()
    raise CrowError(Kind.UNAVAILABLE, "no_ports", "no two UDP ports side by side are free")
