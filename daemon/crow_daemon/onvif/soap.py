"""SOAP calls to a device in the network (ONVIF Core 5.9, 5.12): bounded, within a deadline, and with a login.

The login is shown as a WS-Security UsernameToken digest, and as HTTP digest to a device that asks for it; the password
itself is never sent. Certificates are not verified: cameras sign their own.
"""

import base64
import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from crow_daemon.onvif.xml import MAX_BYTES, Element, parse
from crow_daemon.registry.secret import Credentials
from crow_daemon.rtsp.login import authorization, best_challenge
from crow_shared.errors import CrowError, Kind

_PORTS = {"http": 80, "https": 443}
_TOKEN = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0"  # noqa: S105 — a name
_SECURITY = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_UTILITY = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_MESSAGE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0"


class SoapClient:
    """Calls services of one host, and of no other, until `deadline_s` from now."""

    def __init__(self, host: str, credentials: Credentials | None, deadline_s: float) -> None:
        """Nothing is sent yet."""
        self.host = host
        self._credentials = credentials
        self._ends_s = time.monotonic() + deadline_s
        self.ahead = timedelta()  # by how much the device's clock is ahead of ours: tokens are only good for a while

    def call(self, url: str, body: str, *, log_in: bool = True) -> Element:
        """The body of the answer to a call with this body, at a service of the host.

        Raises CrowError: INVALID (`address_refused`), UNAVAILABLE, TIMEOUT, UNAUTHENTICATED (`auth_failed`),
        UNSUPPORTED (`onvif_unsupported`), CORRUPT, TOO_LARGE.
        """
        port, path = self._place(url)
        credentials = self._credentials if log_in else None
        envelope = _envelope(body, _security(credentials, datetime.now(UTC) + self.ahead) if credentials else "")
        status, challenges, answer = self._post(port, path, envelope, None)
        if status == 401 and credentials is not None:
            challenge = best_challenge(challenges)
            if challenge is not None and challenge.scheme != "basic":
                header = authorization(challenge, credentials, "POST", path)
                status, _, answer = self._post(port, path, envelope, header)
        return self._checked(status, answer)

    def _checked(self, status: int, answer: bytes) -> Element:
        if status in (401, 403):
            raise self._refused_login()
        if status not in (200, 400, 500):  # faults come with the last two
            raise CrowError(Kind.UNSUPPORTED, "onvif_unsupported", f"{self.host} answers {status}: is that ONVIF?")
        found = parse(answer).first("Body")
        if found is None:
            raise CrowError(Kind.UNSUPPORTED, "onvif_unsupported", f"{self.host} answers without a SOAP body")
        fault = found.first("Fault")
        if fault is None:
            return found
        said = " ".join(value.text for value in fault.all("Value") + fault.all("faultcode"))
        if "NotAuthorized" in said or "FailedAuthentication" in said:
            raise self._refused_login()
        raise CrowError(Kind.UNSUPPORTED, "onvif_unsupported", f"{self.host} does not take this call")

    def _refused_login(self) -> CrowError:
        if self._credentials is None:
            return CrowError(Kind.UNAUTHENTICATED, "auth_failed", f"{self.host} asks for a login: give --username")
        return CrowError(
            Kind.UNAUTHENTICATED,
            "auth_failed",
            f"{self.host} does not accept the login; many cameras have ONVIF users of their own",
        )

    def _place(self, url: str) -> tuple[tuple[str, int], str]:
        """Scheme and port, and the path, of a service that the device named. Raises CrowError(INVALID)."""
        try:
            parts = urlsplit(url)
            scheme, port = parts.scheme, parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            raise CrowError(Kind.INVALID, "address_refused", f"{self.host} names a service at no usable URL") from None
        if scheme not in _PORTS or parts.hostname != self.host:
            raise CrowError(
                Kind.INVALID, "address_refused", f"{self.host} names a service on another host, which is not called"
            )
        path = quote(parts.path + (f"?{parts.query}" if parts.query else ""), safe="/?&=%:;,@+~!$'()*-._")
        return (scheme, port), path or "/"

    def _post(
        self, port: tuple[str, int], path: str, envelope: str, header: str | None
    ) -> tuple[int, list[str], bytes]:
        headers = {"Content-Type": "application/soap+xml; charset=utf-8", "Connection": "close"}
        if header:
            headers["Authorization"] = header
        with self._connected(*port) as connection:
            connection.request("POST", path, envelope.encode(), headers)
            with connection.getresponse() as response:
                return response.status, response.headers.get_all("WWW-Authenticate") or [], self._body(response)

    def _body(self, response: HTTPResponse) -> bytes:
        body = response.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise CrowError(Kind.TOO_LARGE, "answer_too_large", f"{self.host} answers with over {MAX_BYTES} bytes")
        return body

    @contextmanager
    def _connected(self, scheme: str, port: int) -> Iterator[HTTPConnection]:
        remaining_s = self._ends_s - time.monotonic()
        if remaining_s <= 0:
            raise self._late()
        if scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection: HTTPConnection = HTTPSConnection(self.host, port, timeout=remaining_s, context=context)
        else:
            connection = HTTPConnection(self.host, port, timeout=remaining_s)
        alarm: threading.Timer | None = None
        try:
            connection.connect()
            alarm = threading.Timer(remaining_s, _hang_up, [connection.sock])  # on who sends a byte now and then
            alarm.start()
            yield connection
            if time.monotonic() >= self._ends_s:  # what was read may have been cut off
                raise self._late()
        except (HTTPException, OSError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= self._ends_s:
                raise self._late() from None
            raise CrowError(
                Kind.UNAVAILABLE, "unreachable", f"{self.host} port {port} does not speak HTTP ({type(error).__name__})"
            ) from None
        finally:
            if alarm is not None:
                alarm.cancel()
            connection.close()

    def _late(self) -> CrowError:
        return CrowError(Kind.TIMEOUT, "camera_timeout", f"{self.host} does not answer in time")


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _envelope(body: str, security: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">'
        f"<s:Header>{security}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )


def _security(credentials: Credentials, now: datetime) -> str:
    """WS-Security UsernameToken Profile 1.0: the password as Base64(SHA-1(nonce + created + password))."""
    nonce, created = secrets.token_bytes(16), now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    mixed = nonce + created.encode() + credentials.password.reveal().encode()
    digest = base64.b64encode(hashlib.sha1(mixed, usedforsecurity=False).digest()).decode()
    return (
        f'<w:Security xmlns:w="{_SECURITY}" s:mustUnderstand="1"><w:UsernameToken>'
        f"<w:Username>{escape(credentials.username)}</w:Username>"
        f'<w:Password Type="{_TOKEN}#PasswordDigest">{digest}</w:Password>'
        f'<w:Nonce EncodingType="{_MESSAGE}#Base64Binary">{base64.b64encode(nonce).decode()}</w:Nonce>'
        f'<u:Created xmlns:u="{_UTILITY}">{created}</u:Created></w:UsernameToken></w:Security>'
    )
