"""A camera's RTP packets, over TCP or UDP.

Invariants
1. Packets are taken from the camera's address alone, and nothing is sent to any other.
2. They are given in the order of their sequence numbers. Over TCP that is how they come; over UDP one that came before
   its turn is held for those before it until the next batch, and then given in spite of the hole.
"""

import contextlib
import re
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

from crow_daemon.registry.camera import Transport
from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.failures import REDIRECTS, refusal
from crow_daemon.rtsp.message import BEGINS, Answer, next_answer
from crow_daemon.rtsp.sdp import VideoDescription, described_video
from crow_shared.errors import CrowError, Kind

_OK, _UNAUTHORIZED = 200, 401
_SESSION_S = 60.0  # for which a camera keeps a session that it hears nothing of (RFC 2326 section 12.37)
_INTERLEAVED = re.compile(r"interleaved=([0-9]{1,3})-([0-9]{1,3})")
_SERVER_PORTS = re.compile(r"server_port=([0-9]{1,5})-([0-9]{1,5})")
_TIMEOUT = re.compile(r"timeout=([0-9]{1,5})")
_ABSOLUTE = re.compile(r"rtsps?://", re.IGNORECASE)
_DOLLAR = ord("$")
_FRAME_BYTES = 4  # "$", channel, length
_MAX_DATAGRAM_BYTES = 1 << 16
_SEQUENCE_ENDS = 4  # byte of an RTP packet
_LATE = 0x8000  # a sequence number that is so far ahead is one of the past
_MOST_AHEAD = 512
_RECEIVE_BYTES = 256 << 10
_MAX_GARBAGE_BYTES = 1 << 20  # in a row
_PORT_PAIRS = 50  # tried, until two ports side by side are free
_DATAGRAM_BUFFER_BYTES = 4 << 20  # the kernel gives what it may
_PUNCH = bytes([0x80, 0x7F]) + bytes(10)  # an RTP packet of nothing: lets a firewall know that answers are awaited


class CameraStream(ABC):
    """One stream, from DESCRIBE on. Used by one thread at a time, `interrupt` excepted."""

    def __init__(self, connection: RtspConnection) -> None:
        """`connection` is connected."""
        self._connection = connection
        self._socket: socket.socket | None = None  # once it plays
        self._received = bytearray()
        self._over = False
        self._session = ""
        self._session_s = _SESSION_S
        self._aggregate = ""
        self._spoke_s = 0.0
        self.heard_s = 0.0  # when the camera last sent something, by the monotonic clock

    def set_up(self) -> VideoDescription:
        """Asks for the video. Raises CrowError, with what is wrong with camera, login or stream."""
        described = self._connection.describe()
        video = described_video(described.body)
        base = described.first("content-base") or described.first("content-location") or self._connection.url.text
        self._aggregate = _resolved(base, video.aggregate_control)
        control = _resolved(base, video.control)
        answer = self._asked("SETUP", control, f"Transport: {self._wanted_transport()}")
        session, _, parameters = (answer.first("session") or "").partition(";")
        timeout = _TIMEOUT.search(parameters)
        self._session, self._session_s = session.strip(), max(2.0, float(timeout[1])) if timeout else _SESSION_S
        self._agreed(answer.first("transport") or "")
        return video

    def play(self) -> None:
        """Asks for the packets. Raises CrowError."""
        self._asked("PLAY", self._aggregate, "Range: npt=0.000-")
        self._socket, early = self._connection.stream()
        self._received += early
        self._spoke_s = self.heard_s = time.monotonic()

    def packets(self) -> tuple[list[bytes], list[bytes]]:
        """What has come since: RTP and RTCP packets. An empty one among the RTP packets stands for what was none.

        Raises CrowError(UNAVAILABLE) "stream_lost" when the camera has ended the stream.
        """
        if self._over:
            raise CrowError(Kind.UNAVAILABLE, "stream_lost", f"{self._connection.url.authority} ended the stream")
        self._receive()
        return self._taken()

    def keep_alive(self) -> None:
        """Lets the camera hear from us before its session ends; to be called about once a second. Raises CrowError."""
        if time.monotonic() - self._spoke_s >= self._session_s / 2:
            self._spoke_s = time.monotonic()
            self._tell("OPTIONS")

    def close(self) -> None:
        """Takes leave and gives the sockets back."""
        if self._socket is not None:
            self._tell("TEARDOWN")
        self._connection.close()

    @abstractmethod
    def _taken(self) -> tuple[list[bytes], list[bytes]]:
        """The packets out of what was received."""

    @abstractmethod
    def _wanted_transport(self) -> str: ...

    @abstractmethod
    def _agreed(self, transport: str) -> None:
        """What the camera answers to it."""

    def _asked(self, method: str, url: str, *headers: str) -> Answer:
        session = [f"Session: {self._session}"] if self._session else []
        answer = self._connection.ask(method, url, *headers, *session)
        if answer.status in REDIRECTS:
            raise CrowError(
                Kind.INVALID,
                "redirect_refused",
                f"{self._connection.url.authority} redirects at {method}, which is not followed",
            )
        if answer.status != _OK:
            raise refusal(self._connection.url, answer.status)
        return answer

    def _tell(self, method: str) -> None:
        """Makes a request of the playing stream; its answer is passed over when it comes."""
        assert self._socket is not None, "play comes first"
        request = self._connection.request(method, self._aggregate, f"Session: {self._session}")
        try:
            self._socket.send(request)  # it always fits: there is nothing else that we send
        except OSError:
            self._over = True

    def _receive(self) -> None:
        """Takes in what has come on the RTSP connection."""
        assert self._socket is not None, "play comes first"
        while not self._over:
            try:
                came = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                came = b""
            self._over = not came
            self._received += came
            if came:
                self.heard_s = time.monotonic()

    def _pass_answer(self) -> bool:
        """Passes over an answer at the beginning of what was received; False when there is no whole one yet."""
        found = next_answer(self._received, 0, len(self._received))
        if found is None:
            return False
        answer, end = found
        del self._received[:end]
        if answer.status == _UNAUTHORIZED:
            self._connection.challenged(answer)  # the next request takes the new nonce
        return True


class TcpStream(CameraStream):
    """Packets within the RTSP connection (RFC 2326 section 10.12)."""

    def __init__(self, connection: RtspConnection) -> None:
        """`connection` is connected."""
        super().__init__(connection)
        self._channels = (0, 1)  # of RTP and RTCP
        self._garbage_bytes = 0

    def _wanted_transport(self) -> str:
        return "RTP/AVP/TCP;unicast;interleaved=0-1"

    def _agreed(self, transport: str) -> None:
        if channels := _INTERLEAVED.search(transport):
            self._channels = int(channels[1]), int(channels[2])

    def _taken(self) -> tuple[list[bytes], list[bytes]]:
        rtp: list[bytes] = []
        rtcp: list[bytes] = []
        while self._walk(rtp, rtcp):
            if self._received.startswith(BEGINS):
                if not self._pass_answer():
                    break
            else:
                rtp.append(b"")
                if not self._pass_garbage():
                    break
        return rtp, rtcp

    def _walk(self, rtp: list[bytes], rtcp: list[bytes]) -> bool:
        """Takes packets while they follow one another; whether something else comes then."""
        data, at, end = bytes(self._received), 0, len(self._received)
        rtp_channel, rtcp_channel = self._channels
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
                rtp.append(data[at + _FRAME_BYTES : following])
                self._garbage_bytes = 0
            elif channel == rtcp_channel:
                rtcp.append(data[at + _FRAME_BYTES : following])
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
            if received[at + 1] in self._channels and (end >= len(received) or received[end] == _DOLLAR):
                break
            at += 1
        passed = at if at >= 0 else len(received)
        self._garbage_bytes += passed
        del received[:passed]
        if self._garbage_bytes > _MAX_GARBAGE_BYTES:
            raise CrowError(Kind.CORRUPT, "not_rtsp", f"{self._connection.url.authority} sends what is no stream")
        return at >= 0


class UdpStream(CameraStream):
    """Packets as datagrams to two ports of ours."""

    def __init__(self, connection: RtspConnection) -> None:
        """`connection` is connected, and says which of our addresses the camera reaches."""
        super().__init__(connection)
        self._own, self._peer = connection.addresses
        self._sockets = _port_pair(self._own)
        self._expected: int | None = None
        self._ahead: dict[int, bytes] = {}  # by sequence number

    def close(self) -> None:
        """Takes leave and gives the sockets back."""
        super().close()
        for sock in self._sockets:
            sock.close()

    def _wanted_transport(self) -> str:
        ports = [sock.getsockname()[1] for sock in self._sockets]
        return f"RTP/AVP;unicast;client_port={ports[0]}-{ports[1]}"

    def _agreed(self, transport: str) -> None:
        ports = _SERVER_PORTS.search(transport)
        for sock, port in zip(self._sockets, ports.groups() if ports else (), strict=False):
            with contextlib.suppress(OSError):  # the camera's datagrams may reach us all the same
                sock.sendto(_PUNCH, (self._peer, int(port) & 0xFFFF))

    def _taken(self) -> tuple[list[bytes], list[bytes]]:
        while self._received and self._pass_answer():
            pass
        waited = set(self._ahead)
        rtp_socket, rtcp_socket = self._sockets
        rtp: list[bytes] = []
        for datagram in self._datagrams(rtp_socket):
            if len(datagram) > _SEQUENCE_ENDS:
                rtp += self._in_order(datagram)
        if waited & self._ahead.keys() or len(self._ahead) > _MOST_AHEAD:
            rtp += self._all_ahead()
        return rtp, list(self._datagrams(rtcp_socket))

    def _datagrams(self, sock: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                datagram, sender = sock.recvfrom(_MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP message about what was sent
                continue
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
        assert self._expected is not None
        expected = self._expected
        for sequence in sorted(self._ahead, key=lambda number: (number - expected) & 0xFFFF):
            yield self._ahead.pop(sequence)
            self._expected = (sequence + 1) & 0xFFFF


def camera_stream(transport: Transport, connection: RtspConnection) -> CameraStream:
    """The stream of a camera that has been connected to. Raises CrowError(UNAVAILABLE) without ports for UDP."""
    return UdpStream(connection) if transport is Transport.UDP else TcpStream(connection)


def _resolved(base: str, control: str | None) -> str:
    """The URL that a control attribute means (RFC 2326 appendix C.1.1)."""
    if control is None:
        return base
    if _ABSOLUTE.match(control):
        return control
    return f"{base.rstrip('/')}/{control}"


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
