"""Addresses of cameras: checked on the way in, free of credentials, and the only place where a libav URL is made.

libav opens far more than RTSP (`file:`, `concat:`, `http:` …) and takes a bare path for a file, so a URL that comes
from outside reaches it only through `CameraUrl`.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from crow_daemon.registry.secret import Credentials, Secret
from crow_shared.errors import CrowError, Kind

DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
MAX_URL_CHARACTERS = 2048
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[0-9a-zA-Z._-]{1,253}|[0-9a-fA-F:.]{2,45}")
_SECRET_IN_PATH = re.compile(r"((?:password|passwd|pwd|pass)=)[^&/?]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """An rtsp or rtsps URL. `target` is path and query as given; `port` is None when the scheme's own is meant.

    Some makers put the password into the path (`/user=admin&password=…`), so `str` and `repr` blank such values;
    `text` has the whole.
    """

    scheme: str
    host: str
    port: int | None
    target: str

    @classmethod
    def parse(cls, text: str) -> "CameraUrl":
        """Checks a URL that holds no credentials.

        Raises CrowError(INVALID): `url_scheme`, `url_credentials`, or `url_malformed` for the rest.
        """
        url, userinfo = _parsed(text)
        if userinfo is not None:
            raise CrowError(
                Kind.INVALID,
                "url_credentials",
                "the URL holds a user name or password, which everyone on this machine can read in the process list "
                "and in the shell history; leave them out of the URL and use --username with --password-stdin or "
                "--password-file",
            )
        return url

    @classmethod
    def parse_redirect(cls, text: str) -> "CameraUrl":
        """As `parse`, for a Location that a camera sent: credentials in it are dropped, not used."""
        return _parsed(text)[0]

    @classmethod
    def parse_with_login(cls, text: str) -> "tuple[CameraUrl, Credentials | None]":
        """A URL that may hold credentials, from a file that its owner keeps to himself, taken apart.

        Raises CrowError(INVALID) as `parse` does; the message holds nothing of the login.
        """
        url, userinfo = _parsed(text)
        if "@" in url.target:  # of rtsp://user:12/34@host/ this would take `user` for the host
            raise _malformed(
                "there is an '@' behind the host; write '/', '?' and '@' of a password as %2F, %3F and %40"
            )
        if not userinfo:
            return url, None
        username, _, password = userinfo.partition(":")
        return url, Credentials(unquote(username), Secret(unquote(password)))

    @property
    def effective_port(self) -> int:
        """The TCP port to connect to."""
        return self.port or DEFAULT_PORTS[self.scheme]

    @property
    def authority(self) -> str:
        """host:port, for messages."""
        return f"{_bracketed(self.host)}:{self.effective_port}"

    @property
    def text(self) -> str:
        """The URL as a camera is asked for it."""
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{_bracketed(self.host)}{port}{self.target}"

    def for_libav(self, credentials: Credentials | None) -> str:
        """The URL with credentials, percent-encoded. It is a secret: it goes to `av.open` and nowhere else."""
        if credentials is None:
            return self.text
        user = quote(credentials.username, safe="")
        word = quote(credentials.password.reveal(), safe="")
        return f"{self.scheme}://{user}:{word}@{self.text.removeprefix(f'{self.scheme}://')}"

    def __str__(self) -> str:
        """The URL, with a password in its path or query blanked."""
        return _SECRET_IN_PATH.sub(r"\g<1>***", self.text)

    def __repr__(self) -> str:
        """As `str`."""
        return f"CameraUrl({str(self)!r})"


def _parsed(text: str) -> tuple[CameraUrl, str | None]:
    scheme = match[1].lower() if (match := _SCHEME.match(text)) else None
    if scheme not in DEFAULT_PORTS:
        found = f"{scheme}:" if scheme else "no scheme"
        raise CrowError(
            Kind.INVALID,
            "url_scheme",
            f"a camera's URL begins with rtsp:// or rtsps://, this one has {found}; a recording is added with --file",
        )
    if len(text) > MAX_URL_CHARACTERS or not _PRINTABLE_ASCII.fullmatch(text):
        raise _malformed(
            f"it may have {MAX_URL_CHARACTERS} printable ASCII characters, no spaces; use percent-encoding"
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _malformed("its host or port cannot be read (the port is a number from 1 to 65535)") from None
    if not text[len(scheme) :].startswith("://") or not host:
        raise _malformed("there is no host in it")
    if parts.fragment:
        raise _malformed("it holds a '#', which is written %23")
    if not _HOST.fullmatch(host) or port == 0:
        raise _malformed("its host or port is not valid")
    userinfo = parts.netloc.rpartition("@")[0] if "@" in parts.netloc else None
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return CameraUrl(scheme, host, port, target), userinfo


def _malformed(why: str) -> CrowError:
    return CrowError(
        Kind.INVALID, "url_malformed", f"this is no usable camera URL: {why}; example: rtsp://192.168.1.64:554/stream1"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
