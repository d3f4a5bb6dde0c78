"""Basic and digest authentication (RFC 7617; RFC 2617 with MD5 and without qop, which is what cameras speak)."""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Literal

from crow_sim.rtsp.wire import Request

Scheme = Literal["digest", "basic"]
REALM = "crow-sim"

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class Gatekeeper:
    """Says who may come in; without a scheme, everybody."""

    def __init__(self, scheme: Scheme | None, user: str, password: str) -> None:
        self._scheme = scheme
        self._user = user
        self._password = password
        self._nonce = secrets.token_hex(16)

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate."""
        if self._scheme == "basic":
            return f'Basic realm="{REALM}"'
        return f'Digest realm="{REALM}", nonce="{self._nonce}", algorithm=MD5'

    def admits(self, request: Request) -> bool:
        """Whether the request carries the right credentials."""
        if self._scheme is None:
            return True
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != self._scheme:
            return False
        return self._basic(value) if self._scheme == "basic" else self._digest(request.method, value)

    def _basic(self, value: str) -> bool:
        return hmac.compare_digest(value, base64.b64encode(f"{self._user}:{self._password}".encode()).decode())

    def _digest(self, method: str, value: str) -> bool:
        given = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(value)}
        identity = _md5(f"{self._user}:{REALM}:{self._password}")
        action = _md5(f"{method}:{given.get('uri', '')}")
        expected = _md5(f"{identity}:{self._nonce}:{action}")
        return (
            given.get("username") == self._user
            and given.get("nonce") == self._nonce
            and hmac.compare_digest(given.get("response", ""), expected)
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
