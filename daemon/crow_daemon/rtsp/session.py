"""The RTSP session of one stream: set up, played, kept alive, ended (RFC 2326 section 10).

Invariants
1. The video is set up and nothing else, over the transport that is asked for.
2. A session is told of before half its time-out has passed.
3. URLs that the camera names are asked for on its own connection alone, wherever they point.
"""

import contextlib
import re
import secrets
import socket
import time

from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.failures import refusal
from crow_daemon.rtsp.message import Answer
from crow_daemon.rtsp.rtp import receiver_report
from crow_daemon.rtsp.sdp import VideoDescription, described_video
from crow_shared.errors import CrowError, Kind

INTERLEAVED = "RTP/AVP/TCP;unicast;interleaved=0-1"  # within the RTSP connection (RFC 2326 section 10.12)
_OK, _NO_SESSION, _UNSUPPORTED_TRANSPORT = 200, 454, 461
_NOT_THERE = (405, 501, 551)  # what cameras say to a method that they do not have
_DEFAULT_TIMEOUT_S = 60
_TIMEOUT_S = (2, 3600)
_MOST_SILENT_S = 20.0  # some cameras hang up earlier than they say
_FAREWELL_S = 0.2
_ABSOLUTE = re.compile(r"rtsps?://", re.IGNORECASE)
_INTERLEAVED_CHANNELS = re.compile(r"interleaved=([0-9]{1,3})-([0-9]{1,3})", re.IGNORECASE)
_SESSION = re.compile(r"([\x21-\x3a\x3c-\x7e]{1,200})(?:\s*;\s*timeout\s*=\s*([0-9]{1,6}))?.*", re.IGNORECASE)


class RtspSession:
    """Used by one thread."""

    def __init__(self, connection: RtspConnection, transport: str = INTERLEAVED) -> None:
        """`connection` is connected before `begin`. `transport` is a value of the Transport header."""
        self._connection = connection
        self._wanted_transport = transport
        self._keepalive = "OPTIONS"
        self._id = ""
        self._url = ""
        self._ssrc = secrets.randbits(32)
        self._sock: socket.socket | None = None  # while the camera plays
        self._early = b""
        self._due_s = 0.0
        self._every_s = _MOST_SILENT_S
        self._renewed = False  # the login, since the camera was last told
        self.transport = ""  # that the camera agreed to
        self.channels = (0, 1)  # of RTP and RTCP, where they are interleaved

    def begin(self) -> VideoDescription:
        """Lets the camera play what it describes so. Raises CrowError."""
        public = self._connection.ask("OPTIONS", self._connection.url.text).first("public") or ""
        answer = self._connection.describe()
        video = described_video(answer.body)
        bases = (answer.first("content-base"), answer.first("content-location"))
        base = next((url for url in bases if url and _ABSOLUTE.match(url)), self._connection.url.text)
        self._url = joined(base, video.aggregate_control)
        self._set_up(joined(base, video.control))
        if "GET_PARAMETER" in public.upper():
            self._keepalive = "GET_PARAMETER"
        self._checked(self._connection.ask("PLAY", self._url, f"Session: {self._id}", "Range: npt=0.000-"))
        self._due_s = time.monotonic() + self._every_s
        self._sock, self._early = self._connection.stream()
        return video

    def stream(self) -> tuple[socket.socket, bytes]:
        """The socket, which does not block, and what has come of it already."""
        assert self._sock is not None, "begin comes first"
        return self._sock, self._early

    def tend(self, now_s: float, ssrc: int | None, highest_sequence: int) -> None:
        """Tells the camera, when it is time, that it is still heard: of which source, and up to where.

        Raises CrowError: UNAVAILABLE "stream_lost" when the connection is gone.
        """
        if now_s < self._due_s:
            return
        self._due_s, self._renewed = now_s + self._every_s, False
        told = self._asked_to_live_on()
        if ssrc is not None:
            packet = receiver_report(self._ssrc, ssrc, highest_sequence)
            told += b"$" + bytes([self.channels[1]]) + len(packet).to_bytes(2, "big") + packet
        self._send(told)

    def answered(self, answer: Answer) -> None:
        """What the camera answered to `tend`. Raises CrowError when the session is over."""
        if not self._connection.admits(answer):
            if self._renewed:
                raise refusal(self.where, answer.status)
            self._renewed = True
            self._send(self._asked_to_live_on())
        elif answer.status == _NO_SESSION:
            raise self.lost("has ended the session")
        elif answer.status in _NOT_THERE:
            self._keepalive = "OPTIONS"

    def end(self) -> None:
        """Takes leave, if the camera plays; waits a moment, so that it hears of it before the connection closes."""
        if self._sock is None:
            return
        ends_s = time.monotonic() + _FAREWELL_S
        with contextlib.suppress(OSError):
            self._sock.settimeout(_FAREWELL_S)
            self._sock.sendall(self._connection.request("TEARDOWN", self._url, f"Session: {self._id}"))
            self._sock.shutdown(socket.SHUT_WR)
            while (left_s := ends_s - time.monotonic()) > 0:
                self._sock.settimeout(left_s)
                if not self._sock.recv(64 << 10):
                    break
        self._sock = None

    @property
    def where(self) -> str:
        """The camera, in messages."""
        return self._connection.url.authority

    def lost(self, how: str) -> CrowError:
        """What to raise when the stream is over; `how` is what the camera did."""
        return CrowError(Kind.UNAVAILABLE, "stream_lost", f"{self.where} {how}")

    def _set_up(self, url: str) -> None:
        answer = self._connection.ask("SETUP", url, f"Transport: {self._wanted_transport}")
        if answer.status == _UNSUPPORTED_TRANSPORT:
            other = "udp" if self._wanted_transport == INTERLEAVED else "tcp"
            raise CrowError(
                Kind.UNSUPPORTED,
                "transport_refused",
                f"{self.where} does not send its stream so; try: crow-daemon camera edit ID --transport {other}",
            )
        self._checked(answer)
        session = _SESSION.fullmatch(answer.first("session") or "")
        if session is None:
            raise CrowError(Kind.CORRUPT, "bad_session", f"{self.where} sets up a stream without a session")
        self._id = session[1]
        timeout_s = int(session[2] or _DEFAULT_TIMEOUT_S)
        self._every_s = min(_MOST_SILENT_S, min(max(timeout_s, _TIMEOUT_S[0]), _TIMEOUT_S[1]) / 2.5)
        self.transport = answer.first("transport") or ""
        channels = _INTERLEAVED_CHANNELS.search(self.transport)
        if channels is not None:
            self.channels = int(channels[1]) & 0xFF, int(channels[2]) & 0xFF

    def _checked(self, answer: Answer) -> None:
        if answer.status != _OK:
            raise refusal(self.where, answer.status)

    def _asked_to_live_on(self) -> bytes:
        return self._connection.request(self._keepalive, self._url, f"Session: {self._id}")

    def _send(self, told: bytes) -> None:
        assert self._sock is not None
        try:
            sent = self._sock.send(told)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self.lost(f"ended the stream ({type(error).__name__})") from None
        if sent < len(told):
            raise self.lost("takes no requests any more")


def joined(base: str, control: str | None) -> str:
    """The URL of a part of the stream, as cameras mean it: behind the whole, query included, and not by RFC 3986."""
    if control is None:
        return base
    if _ABSOLUTE.match(control):
        return control
    return f"{base.rstrip('/')}/{control.lstrip('/')}"
