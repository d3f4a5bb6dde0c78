"""Logging in as cameras ask for it: Basic (RFC 7617) and Digest (RFC 7616, and 2069 before it).

Invariants of `Login`
1. No credentials are given before the camera asked for them.
2. A camera that does not accept them is not given them again, unless it said that only the nonce is old: a wrong
   password costs one attempt, whichever request it is given with, and no account is locked by trying on.

Texts of a challenge and of the answer to it are as HTTP and RTSP carry them: one character (U+0000 to U+00FF) is one
byte. So what a camera says is hashed and said again byte by byte, be it UTF-8 or Latin-1; what is ours is UTF-8.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from crow_daemon.registry.secret import Credentials
from crow_daemon.rtsp.failures import refusal
from crow_daemon.rtsp.message import Answer
from crow_shared.errors import CrowError, Kind

_PARAMETER = re.compile(r'([a-zA-Z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HASHES = {"md5": "md5", "sha-256": "sha256"}
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a camera asks for; `algorithm` is in small letters."""

    scheme: str  # basic or digest
    realm: str = ""
    nonce: str = ""
    opaque: str | None = None
    algorithm: str = "md5"
    qop_auth: bool = False
    stale: bool = False  # the login was right, but for a nonce that is too old


class Login:
    """The login of one connection, over all its requests."""

    def __init__(self, credentials: Credentials | None, authority: str) -> None:
        """`authority` is the camera's host and port, for messages."""
        self._credentials = credentials
        self._authority = authority
        self._challenge: Challenge | None = None
        self._uses = 0  # of the challenge's nonce
        self._accepted = False

    def header(self, method: str, url: str) -> str | None:
        """The Authorization value for the next request, a secret; None while the camera asked for nothing."""
        if self._challenge is None or self._credentials is None:
            return None
        self._uses += 1
        return authorization(self._challenge, self._credentials, method, url, self._uses)

    def admits(self, answer: Answer) -> bool:
        """Whether the last request was let in; if not, it is to be made again with what `header` gives then.

        Raises CrowError: UNAUTHENTICATED "auth_failed" when there are no credentials for it or they are not accepted,
        UNSUPPORTED "auth_unsupported".
        """
        if answer.status != _UNAUTHORIZED:
            if answer.status == _FORBIDDEN and self._challenge is not None and not self._accepted:
                raise refusal(self._authority, _FORBIDDEN)
            self._accepted = self._challenge is not None
            return True
        if self._credentials is None:
            raise CrowError(
                Kind.UNAUTHENTICATED,
                "auth_failed",
                f"{self._authority} asks for a user name and password, and the camera has none here; "
                "set them with: crow-daemon camera edit ID --username NAME",
            )
        challenge = best_challenge(answer.all("www-authenticate"))
        if challenge is None:
            raise CrowError(
                Kind.UNSUPPORTED,
                "auth_unsupported",
                f"{self._authority} asks for an authentication that is neither basic nor digest (MD5, SHA-256)",
            )
        before, self._challenge, self._uses = self._challenge, challenge, 0
        # Some cameras change the nonce of a running session and do not call the old one stale.
        renewed = before is not None and challenge.nonce != before.nonce and (challenge.stale or self._accepted)
        self._accepted = False
        if before is not None and not renewed:
            raise refusal(self._authority, _UNAUTHORIZED)
        return False


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """The strongest challenge of these WWW-Authenticate values that we can answer; None when there is none."""
    offers = [offer for header in headers if (offer := _challenge(header))]
    return max(offers, key=_strength, default=None)


def authorization(challenge: Challenge, credentials: Credentials, method: str, url: str, use: int = 1) -> str:
    """The Authorization value for one request, the `use`-th with this nonce, counted from 1.

    It is a secret: for Basic it holds the password. A character of it is a byte.
    """
    name, word = (ours.encode().decode("latin-1") for ours in (credentials.username, credentials.password.reveal()))
    if challenge.scheme == "basic":
        return "Basic " + base64.b64encode(f"{name}:{word}".encode("latin-1")).decode()
    client_nonce = secrets.token_hex(8)
    secret_half = _digest(challenge, f"{name}:{challenge.realm}:{word}")
    if challenge.algorithm.endswith("-sess"):
        secret_half = _digest(challenge, f"{secret_half}:{challenge.nonce}:{client_nonce}")
    request_half = _digest(challenge, f"{method}:{url}")
    count = f"{use:08x}"
    middle = f"{challenge.nonce}:{count}:{client_nonce}:auth" if challenge.qop_auth else challenge.nonce
    fields = [
        f'username="{_quoted(name)}"',
        f'realm="{challenge.realm}"',
        f'nonce="{challenge.nonce}"',
        f'uri="{url}"',
        f'response="{_digest(challenge, f"{secret_half}:{middle}:{request_half}")}"',
        f"algorithm={challenge.algorithm.upper().replace('SESS', 'sess')}",
    ]
    if challenge.opaque is not None:
        fields.append(f'opaque="{challenge.opaque}"')
    if challenge.qop_auth or challenge.algorithm.endswith("-sess"):
        fields.append(f'cnonce="{client_nonce}"')
    if challenge.qop_auth:
        fields += ["qop=auth", f"nc={count}"]
    return "Digest " + ", ".join(fields)


def _challenge(header: str) -> Challenge | None:
    scheme, _, rest = header.strip().partition(" ")
    found = {match[1].lower(): match[2] if match[2] is not None else match[3] for match in _PARAMETER.finditer(rest)}
    if scheme.lower() == "basic":
        return Challenge("basic")
    algorithm = found.get("algorithm", "md5").lower()
    qops = [qop.strip().lower() for qop in found.get("qop", "").split(",") if qop.strip()]
    known = algorithm.removesuffix("-sess") in _HASHES and "nonce" in found and (not qops or "auth" in qops)
    if scheme.lower() != "digest" or not known:
        return None
    return Challenge(
        "digest",
        found.get("realm", ""),
        found["nonce"],
        found.get("opaque"),
        algorithm,
        bool(qops),
        found.get("stale", "").lower() == "true",
    )


def _strength(challenge: Challenge) -> int:
    return 0 if challenge.scheme == "basic" else 2 if challenge.algorithm.startswith("sha") else 1


def _digest(challenge: Challenge, text: str) -> str:
    algorithm = _HASHES[challenge.algorithm.removesuffix("-sess")]
    return hashlib.new(algorithm, text.encode("latin-1"), usedforsecurity=False).hexdigest()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
