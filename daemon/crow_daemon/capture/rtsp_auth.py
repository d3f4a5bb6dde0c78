"""HTTP authentication as cameras ask for it: Basic (RFC 7617) and Digest (RFC 7616, and 2069 before it)."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from crow_daemon.registry.secret import Credentials

_PARAMETER = re.compile(r'([a-zA-Z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HASHES = {"md5": "md5", "sha-256": "sha256"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a camera asks for; `algorithm` is in small letters."""

    scheme: str  # basic or digest
    realm: str = ""
    nonce: str = ""
    opaque: str | None = None
    algorithm: str = "md5"
    qop_auth: bool = False


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """The strongest challenge of these WWW-Authenticate values that we can answer; None when there is none."""
    offers = [offer for header in headers if (offer := _challenge(header))]
    return max(offers, key=_strength, default=None)


def authorization(challenge: Challenge, credentials: Credentials, method: str, url: str) -> str:
    """The Authorization value for one request. It is a secret: for Basic it holds the password."""
    name, word = credentials.username, credentials.password.reveal()
    if challenge.scheme == "basic":
        return "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()
    client_nonce = secrets.token_hex(8)
    secret_half = _digest(challenge, f"{name}:{challenge.realm}:{word}")
    if challenge.algorithm.endswith("-sess"):
        secret_half = _digest(challenge, f"{secret_half}:{challenge.nonce}:{client_nonce}")
    request_half = _digest(challenge, f"{method}:{url}")
    middle = f"{challenge.nonce}:00000001:{client_nonce}:auth" if challenge.qop_auth else challenge.nonce
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
        fields += ["qop=auth", "nc=00000001"]
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
    return Challenge("digest", found.get("realm", ""), found["nonce"], found.get("opaque"), algorithm, bool(qops))


def _strength(challenge: Challenge) -> int:
    return 0 if challenge.scheme == "basic" else 2 if challenge.algorithm.startswith("sha") else 1


def _digest(challenge: Challenge, text: str) -> str:
    algorithm = _HASHES[challenge.algorithm.removesuffix("-sess")]
    return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
