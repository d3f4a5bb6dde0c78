"""Asks a camera for its stream description before libav may talk to it.

libav says little about why a stream does not open, follows a redirect to any host, and sends that host the camera's
credentials. So this small client does the DESCRIBE first. It answers with a typed failure or with the URL that libav
may open. A camera that behaves here and redirects libav a moment later is not stopped by this: only a firewall or the
unit's address allow-list does that.

Invariants
1. Credentials go to the configured host and port only, and only after it asked for them.
2. The whole exchange ends by its deadline, and no answer is read beyond `MAX_HEADER_BYTES` and `MAX_BODY_BYTES`.
   (Looking up a name has the resolver's own time-outs.)
3. No message holds credentials.

Certificates of rtsps cameras are not verified: cameras sign their own, and libav does not verify them either.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from crow_daemon.capture.rtsp_auth import authorization, best_challenge
from crow_daemon.capture.sdp import video_codec
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind

MAX_HEADER_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 10
_REDIRECTS = (301, 302, 303, 305, 307, 308)
_RECEIVE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Described:
    """A stream that can be opened: where, and its codec by its RTP name."""

    url: CameraUrl
    codec: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]  # names in small letters
    body: str

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def describe(url: CameraUrl, credentials: Credentials | None, deadline_s: float) -> Described:
    """What the camera says about the stream at `url`, within `deadline_s` seconds.

    Raises CrowError: UNAVAILABLE (`host_unknown`, `unreachable`, `camera_refused`), TIMEOUT (`camera_timeout`),
    UNAUTHENTICATED (`auth_failed`), NOT_FOUND (`stream_not_found`), UNSUPPORTED (`codec_unsupported`, `no_video`,
    `auth_unsupported`), INVALID (`redirect_refused`), CORRUPT (`not_rtsp`), TOO_LARGE (`answer_too_large`).
    """
    ends_s = time.monotonic() + deadline_s
    with _translated(url):
        answer = _ask(url, credentials, ends_s)
        if answer.status in _REDIRECTS:
            url = _same_place(url, answer)
            answer = _ask(url, credentials, ends_s)
    if answer.status != 200:
        raise _refusal(url, answer.status)
    return Described(url, video_codec(answer.body))


def _ask(url: CameraUrl, credentials: Credentials | None, ends_s: float) -> _Answer:
    with _connected(url, ends_s) as connection:
        answer = connection.request("DESCRIBE", url.text, None)
        if answer.status == 401:
            if credentials is None:
                raise CrowError(
                    Kind.UNAUTHENTICATED,
                    "auth_failed",
                    f"{url.authority} asks for a user name and password, and the camera has none here; "
                    "set them with: crow-daemon camera edit ID --username NAME",
                )
            challenge = best_challenge(answer.all("www-authenticate"))
            if challenge is None:
                raise CrowError(
                    Kind.UNSUPPORTED,
                    "auth_unsupported",
                    f"{url.authority} asks for an authentication that is neither basic nor digest (MD5, SHA-256)",
                )
            header = authorization(challenge, credentials, "DESCRIBE", url.text)
            answer = connection.request("DESCRIBE", url.text, header)
        return answer


class _Connection:
    """One RTSP connection with a deadline for everything."""

    def __init__(self, sock: socket.socket, ends_s: float) -> None:
        self._sock = sock
        self._ends_s = ends_s
        self._received = b""
        self._sequence = 0

    def request(self, method: str, url: str, authorization_header: str | None) -> _Answer:
        self._sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence}", "User-Agent: crow-daemon"]
        lines.append("Accept: application/sdp")
        if authorization_header:
            lines.append(f"Authorization: {authorization_header}")
        self._sock.settimeout(_remaining_s(self._ends_s))
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return self._answer()

    def _answer(self) -> _Answer:
        while b"\r\n\r\n" not in self._received:
            if len(self._received) > MAX_HEADER_BYTES:
                raise CrowError(Kind.TOO_LARGE, "answer_too_large", "the camera's answer has headers without end")
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("RTSP/") or not words[1].isdecimal():
            raise _not_rtsp()
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        body = self._body(dict(headers).get("content-length", "0"))
        return _Answer(int(words[1]), headers, body)

    def _body(self, length: str) -> str:
        if not length.isdecimal():
            raise _not_rtsp()
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise CrowError(Kind.TOO_LARGE, "answer_too_large", f"the camera announces {length[:12]} bytes of answer")
        while len(self._received) < int(length):
            self._receive()
        body, self._received = self._received[: int(length)], self._received[int(length) :]
        return body.decode("utf-8", "replace")

    def _receive(self) -> None:
        self._sock.settimeout(_remaining_s(self._ends_s))
        received = self._sock.recv(_RECEIVE_BYTES)
        if not received:
            raise ConnectionError
        if not self._received and not received.startswith(b"R"):  # neither "RTSP/" nor the beginning of it
            raise _not_rtsp()
        self._received += received


@contextmanager
def _connected(url: CameraUrl, ends_s: float) -> Iterator[_Connection]:
    with socket.create_connection((url.host, url.effective_port), _remaining_s(ends_s)) as plain:
        if url.scheme != "rtsps":
            yield _Connection(plain, ends_s)
            return
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=url.host) as encrypted:
            yield _Connection(encrypted, ends_s)


@contextmanager
def _translated(url: CameraUrl) -> Iterator[None]:
    try:
        yield
    except socket.gaierror:
        raise CrowError(
            Kind.UNAVAILABLE, "host_unknown", f"the name {url.host!r} cannot be looked up; check it, or use an address"
        ) from None
    except TimeoutError:
        raise CrowError(
            Kind.TIMEOUT,
            "camera_timeout",
            f"{url.authority} does not answer in time; is the camera on, and the port right?",
        ) from None
    except ssl.SSLError as error:
        raise CrowError(
            Kind.UNAVAILABLE, "tls_failed", f"{url.authority} does not speak TLS with us: {error.reason}"
        ) from None
    except ConnectionRefusedError:
        raise CrowError(
            Kind.UNAVAILABLE,
            "unreachable",
            f"{url.authority} refuses connections; is RTSP switched on, and the port right?",
        ) from None
    except (ConnectionError, UnicodeError) as error:
        raise CrowError(
            Kind.UNAVAILABLE, "unreachable", f"{url.authority} ends the connection ({type(error).__name__})"
        ) from None
    except OSError as error:
        raise CrowError(
            Kind.UNAVAILABLE, "unreachable", f"{url.authority} cannot be reached: {error.strerror or error}"
        ) from None


def _same_place(url: CameraUrl, answer: _Answer) -> CameraUrl:
    """Where a redirect leads, when that is the same host and port: only such ones are followed."""
    try:
        target = CameraUrl.parse_redirect(next(iter(answer.all("location")), ""))
    except CrowError:
        target = None
    if target is None or (target.scheme, target.authority) != (url.scheme, url.authority):
        where = target.authority if target else "something that is no RTSP URL"
        raise CrowError(
            Kind.INVALID,
            "redirect_refused",
            f"{url.authority} redirects to {where}, which is not followed; if that is right, set it as the URL",
        )
    return target


def _refusal(url: CameraUrl, status: int) -> CrowError:
    match status:
        case 401 | 403:
            return CrowError(
                Kind.UNAUTHENTICATED,
                "auth_failed",
                f"{url.authority} does not accept the user name and password; tried again rarely, so that the account "
                "is not locked",
            )
        case 404 | 454 | 400:
            return CrowError(
                Kind.NOT_FOUND,
                "stream_not_found",
                f"{url.authority} has no stream at this path (it answers {status}); check the path of the URL",
            )
        case status if status in _REDIRECTS:
            return CrowError(Kind.INVALID, "redirect_refused", f"{url.authority} redirects again and again")
        case _:
            return CrowError(
                Kind.EXHAUSTED, "camera_refused", f"{url.authority} refuses the stream (it answers {status})"
            )


def _not_rtsp() -> CrowError:
    return CrowError(Kind.CORRUPT, "not_rtsp", "what answers there does not speak RTSP; check the port")


def _remaining_s(ends_s: float) -> float:
    remaining_s = ends_s - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s
