"""One RTSP connection to a camera, from the first request to PLAY.

Invariants
1. It is made to the configured host and port alone; a redirect to any other place is refused (`same_place`).
2. Every wait ends by the deadline, or at once by `interrupt` (looking up a name excepted: the resolver has its own
   time-outs), and no answer is read beyond the bounds of `message`. Once the camera plays there are no waits, and
   `interrupt` leaves the socket alone: it is still needed to take leave.
3. No message of an error holds credentials, and no operating system's error leaves this module untranslated.

Certificates of rtsps cameras are not verified: cameras sign their own, and libav does not verify them either.
"""

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.failures import REDIRECTS, connection_error, refusal, same_place
from crow_daemon.rtsp.login import Login
from crow_daemon.rtsp.message import Answer, next_answer
from crow_shared.errors import CrowError, Kind

_OK, _UNAUTHORIZED = 200, 401
_USER_AGENT = "User-Agent: crow-daemon"
_RECEIVE_BYTES = 16 << 10
_MAX_EARLY_BYTES = 4 << 20  # of packets that overtake the answer to PLAY
_MOST_ATTEMPTS = 3  # of one request: without a login, with it, and with it again for a nonce that went stale
_INTERLEAVED = 0x24  # "$" (RFC 2326 section 10.12)
_PLAIN = re.compile(r"[\x21-\x7e]{1,2048}")


class RtspConnection:
    """Used by one thread, `interrupt` excepted."""

    def __init__(self, url: CameraUrl, credentials: Credentials | None) -> None:
        """Not connected yet."""
        self.url = url  # changes when a redirect is followed
        self._early = bytearray()  # interleaved packets that came before an answer
        self._credentials = credentials
        self._login = Login(credentials, url.authority)
        self._ends_s = 0.0
        self._sock: socket.socket | None = None
        self._received = bytearray()
        self._sequence = 0
        self._interrupted = False
        self._plays = False

    def connect(self, within_s: float) -> None:
        """Connects; whatever is asked on this connection is answered within that time, too. Raises CrowError."""
        self._ends_s = time.monotonic() + within_s
        self._connect()

    def describe(self) -> Answer:
        """What the camera says about its stream, with status 200; one redirect within the camera is followed.

        Raises CrowError, among others INVALID "redirect_refused" and what another status means (`refusal`).
        """
        answer = self._ask_for_description()
        if answer.status in REDIRECTS:
            self.url = same_place(self.url, answer)
            self._login = Login(self._credentials, self.url.authority)
            self._connect()
            answer = self._ask_for_description()
        if answer.status != _OK:
            raise refusal(self.url.authority, answer.status)
        return answer

    def ask(self, method: str, url: str, *headers: str) -> Answer:
        """Makes a request, with a login if one is asked for, and waits for its answer, whatever else its status.

        Raises CrowError, among others UNAUTHENTICATED "auth_failed" when there is no login to make it with, or it is
        not accepted.
        """
        for _ in range(_MOST_ATTEMPTS):
            request = self.request(method, url, *headers)
            with self._translated():
                sock = self._connected()
                sock.settimeout(self._remaining_s())
                sock.sendall(request)
                answer = self._answer(sock)
            if self._login.admits(answer):
                return answer
        raise refusal(self.url.authority, _UNAUTHORIZED)

    def request(self, method: str, url: str, *headers: str) -> bytes:
        """The bytes of a request, which are a secret when they hold a login."""
        if not _PLAIN.fullmatch(url):
            raise CrowError(Kind.CORRUPT, "bad_description", f"{self.url.authority} describes its stream by no URL")
        self._sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence}", _USER_AGENT, *headers]
        login = self._login.header(method, url)
        if login is not None:
            lines.append(f"Authorization: {login}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")  # as `login` says

    def admits(self, answer: Answer) -> bool:
        """Whether a request of the playing stream was let in; if not, it is to be made again. Raises CrowError."""
        return self._login.admits(answer)

    def stream(self) -> tuple[socket.socket, bytes]:
        """After PLAY: the socket, which does not block from now on, and what of the stream has come already."""
        sock = self._connected()
        self._plays = True
        sock.settimeout(0)
        return sock, bytes(self._early) + bytes(self._received)

    @property
    def addresses(self) -> tuple[str, str]:
        """Once connected: our own address and the camera's, as numbers."""
        sock = self._connected()
        return sock.getsockname()[0], sock.getpeername()[0]

    def interrupt(self) -> None:
        """From any thread: ends every wait of this connection, now and later."""
        self._interrupted = True
        sock = self._sock
        if sock is not None and not self._plays:
            with contextlib.suppress(OSError):  # not connected yet: `_reached` looks at the flag
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the socket back."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _ask_for_description(self) -> Answer:
        return self.ask("DESCRIBE", self.url.text, "Accept: application/sdp")

    def _connect(self) -> None:
        self._received.clear()
        self._early.clear()
        with self._translated():
            sock = self._reached()
            if self.url.scheme == "rtsps":
                self._sock = sock = _encrypted(sock, self.url.host)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _reached(self) -> socket.socket:
        """A socket that is connected to the first address of the host that answers."""
        addresses = socket.getaddrinfo(self.url.host, self.url.effective_port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            self.close()
            self._sock = sock = socket.socket(family, kind, protocol)
            if self._interrupted:
                raise ConnectionAbortedError
            sock.settimeout(self._remaining_s() / (len(addresses) - number))
            try:
                sock.connect(address)
            except OSError:
                if self._interrupted or number == len(addresses) - 1:
                    raise
            else:
                break
        return self._connected()

    def _connected(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionAbortedError
        return self._sock

    def _answer(self, sock: socket.socket) -> Answer:
        received = self._received
        while True:
            while received and received[0] == _INTERLEAVED and (packet := _interleaved_bytes(received)) is not None:
                self._early += received[:packet]
                del received[:packet]
                if len(self._early) > _MAX_EARLY_BYTES:
                    raise CrowError(Kind.TOO_LARGE, "answer_too_large", "the camera streams and does not answer")
            if received and received[0] != _INTERLEAVED:
                found = next_answer(received, 0, len(received))
                if found is not None:
                    answer, end = found
                    del received[:end]
                    return answer
            sock.settimeout(self._remaining_s())
            came = sock.recv(_RECEIVE_BYTES)
            if not came:
                raise ConnectionError
            received += came

    def _remaining_s(self) -> float:
        remaining_s = self._ends_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        return remaining_s

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeError) as error:
            raise connection_error(self.url, error) from None


def _interleaved_bytes(received: bytearray) -> int | None:
    """The length of the packet at the beginning, with its header; None while there is more of it to come."""
    if len(received) < 4:
        return None
    length = 4 + (received[2] << 8 | received[3])
    return length if length <= len(received) else None


def _encrypted(sock: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=host)
