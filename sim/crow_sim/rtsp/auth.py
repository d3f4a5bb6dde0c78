"""Basic and digest authentication.

RFC 7617; RFC 2617 with MD5 and without qop, which is what most cameras speak; RFC 7616 with SHA-256 and qop, which
newer ones do.
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Literal

from crow_sim.rtsp.wire import Request

Scheme = Literal["digest", "digest-sha256", "basic"]
REALM = "crow-sim"

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class Gatekeeper:
    """Says who may come in; without a scheme, everybody. A nonce is good for `nonce_requests` requests, None: for all.

    A request with the right credentials and the nonce before the present one is told that the nonce is stale.
    """

    def __init__(self, scheme: Scheme | None, user: str, password: str, nonce_requests: int | None = None) -> None:
        self._scheme = scheme
        self._user = user
        self._password = password
        self._nonce_requests = nonce_requests
        self._nonce, self._stale_nonce = secrets.token_hex(16), ""
        self._admitted = 0  # with the present nonce

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate for who has no or wrong credentials."""
        if self._scheme == "basic":
            return f'Basic realm="{REALM}"'
        modern = 'qop="auth", algorithm=SHA-256' if self._scheme == "digest-sha256" else "algorithm=MD5"
        return f'Digest realm="{REALM}", nonce="{self._nonce}", {modern}'

    def challenge_to(self, request: Request) -> str | None:
        """None lets the request in; else the value of WWW-Authenticate that it is answered with."""
        if self._scheme is None:
            return None
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != self._scheme.partition("-")[0]:
            return self.challenge
        if self._scheme == "basic":
            return None if self._basic(value) else self.challenge
        given = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(value)}
        nonce = given.get("nonce", "")
        if nonce not in {self._nonce, self._stale_nonce} or not self._answers(given, request.method, nonce):
            return self.challenge
        if nonce == self._stale_nonce:
            return f"{self.challenge}, stale=true"
        self._admitted += 1
        if self._admitted == self._nonce_requests:
            self._nonce, self._stale_nonce, self._admitted = secrets.token_hex(16), self._nonce, 0
        return None

    def _basic(self, value: str) -> bool:
        return hmac.compare_digest(value, base64.b64encode(f"{self._user}:{self._password}".encode()).decode())

    def _answers(self, given: dict[str, str], method: str, nonce: str) -> bool:
        identity = self._hash(f"{self._user}:{REALM}:{self._password}")
        action = self._hash(f"{method}:{given.get('uri', '')}")
        middle = f"{nonce}:{given.get('nc')}:{given.get('cnonce')}:auth" if "qop" in given else nonce
        expected = self._hash(f"{identity}:{middle}:{action}")
        return (
            given.get("username") == self._user
            and ("qop" in given or self._scheme == "digest")
            and hmac.compare_digest(given.get("response", ""), expected)
        )

    def _hash(self, text: str) -> str:
        if self._scheme == "digest-sha256":
            return hashlib.sha256(text.encode()).hexdigest()
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
