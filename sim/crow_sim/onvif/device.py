"""An ONVIF device for tests: a responder to WS-Discovery over UDP, and its SOAP services over HTTP.

It checks logins as devices do: the WS-Security token with its nonce and time, or HTTP digest, or neither.
"""

import base64
import hashlib
import re
import secrets
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from uuid import uuid4
from xml.sax.saxutils import escape

_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_MEDIA2 = "http://www.onvif.org/ver20/media/wsdl"
_TOKEN_AGE = timedelta(seconds=30)
_PATH = "/onvif/device_service"
_DOCTYPE = '<!DOCTYPE x [<!ENTITY e "boom">]>'
_SOAP = "http://www.w3.org/2003/05/soap-envelope"


@dataclass(frozen=True, slots=True)
class Profile:
    """One stream of a device: its video source, codec (H264, H265 or JPEG), size and URL."""

    source: str
    codec: str
    width: int
    height: int
    uri: str


@dataclass(frozen=True, slots=True)
class OnvifFaults:
    """What the device does wrong; the default is nothing."""

    xaddrs: str | None = None  # the addresses that it answers to a discovery with
    media_url: str | None = None  # where it says that its media service is
    doctype: bool = False  # answers declare entities
    endless_body: bool = False  # answers go on for ever
    one_byte_every_s: float | None = None  # answers come in drops
    status: int = 200
    answer: bytes | None = None  # in place of any answer


@dataclass(slots=True)
class OnvifDevice:
    """Runs within a `with`; `host` and `port` are those of its HTTP, `discovery` those of its UDP responder."""

    profiles: Sequence[Profile]
    user: str | None = None
    password: str = ""
    auth: Literal["token", "digest", "basic"] = "token"
    media2: bool = True
    clock_ahead_s: float = 0.0
    name: str = "Till camera"
    faults: OnvifFaults = field(default_factory=OnvifFaults)
    host: str = "127.0.0.1"
    group: tuple[str, int] | None = None  # to be joined on the loopback interface; without it, one is asked directly
    authorizations: list[str] = field(default_factory=list)  # every Authorization header that came
    _nonces: set[str] = field(default_factory=set)
    _http_nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    _http: ThreadingHTTPServer | None = None
    _udp: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Listens."""
        self._http = ThreadingHTTPServer((self.host, 0), type("Handler", (_Handler,), {"served": self}))
        self._http.daemon_threads = False
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.settimeout(0.2)
        if self.group is None:
            self._udp.bind((self.host, 0))
        else:
            self._udp.bind(("", self.group[1]))
            joined = struct.pack("=4s4s", socket.inet_aton(self.group[0]), socket.inet_aton(self.host))
            self._udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.05,), name="onvif-http"),
            threading.Thread(target=self._answer_probes, name="onvif-udp"),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops."""
        assert self._http is not None
        assert self._udp is not None
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()
        self._udp.close()

    @property
    def port(self) -> int:
        """Of its HTTP."""
        assert self._http is not None
        return int(self._http.server_address[1])

    @property
    def discovery(self) -> tuple[str, int]:
        """Where a probe reaches it."""
        assert self._udp is not None
        return self.group or (self.host, self._udp.getsockname()[1])

    @property
    def service(self) -> str:
        """The URL of its device service."""
        return f"http://{self.host}:{self.port}{_PATH}"

    def _answer_probes(self) -> None:
        assert self._udp is not None
        while not self._stop.is_set():
            try:
                datagram, sender = self._udp.recvfrom(65_535)
            except TimeoutError:
                continue
            asked = re.search(rb"<[a-z]:MessageID>([^<]+)<", datagram)
            if asked and b"NetworkVideoTransmitter" in datagram:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
                    answering.bind((self.host, 0))
                    answering.sendto(self._probe_match(asked[1].decode()).encode(), sender)

    def _probe_match(self, relates_to: str) -> str:
        scopes = f"onvif://www.onvif.org/name/{self.name.replace(' ', '%20')} onvif://www.onvif.org/hardware/SIM-1"
        return (
            f'{_DOCTYPE if self.faults.doctype else ""}<s:Envelope xmlns:s="{_SOAP}"'
            ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
            ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">'
            f"<s:Header><a:MessageID>uuid:{uuid4()}</a:MessageID><a:RelatesTo>{relates_to}</a:RelatesTo></s:Header>"
            "<s:Body><d:ProbeMatches><d:ProbeMatch>"
            f"<a:EndpointReference><a:Address>urn:uuid:{uuid4()}</a:Address></a:EndpointReference>"
            f"<d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>{scopes}</d:Scopes>"
            f"<d:XAddrs>{self.faults.xaddrs or self.service}</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion>"
            "</d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
        )

    def let_in(self, envelope: str, authorization: str, path: str) -> bool:
        """Whether a request shows the login, in the way that this device asks for."""
        if self.user is None:
            return True
        match self.auth:
            case "token":
                return self._is_token(envelope)
            case "digest":
                return self._is_digest(authorization, path)
            case "basic":
                return authorization == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def challenge(self) -> str:
        """The WWW-Authenticate header of a refusal."""
        if self.auth == "basic":
            return 'Basic realm="sim"'
        return f'Digest realm="sim", nonce="{self._http_nonce}", qop="auth", algorithm=MD5'

    def now(self) -> datetime:
        """By the device's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_ahead_s)

    def _is_token(self, envelope: str) -> bool:
        fields = {
            name: match[1]
            for name in ("Username", "Password", "Nonce", "Created")
            if (match := re.search(rf"<\w:{name}\b[^>]*>([^<]*)<", envelope))
        }
        if len(fields) < 4 or fields["Username"] != escape(self.user or "") or fields["Nonce"] in self._nonces:
            return False
        self._nonces.add(fields["Nonce"])
        created = datetime.fromisoformat(fields["Created"])
        mixed = base64.b64decode(fields["Nonce"]) + fields["Created"].encode() + self.password.encode()
        right = base64.b64encode(hashlib.sha1(mixed, usedforsecurity=False).digest()).decode()
        return fields["Password"] == right and abs(created - self.now()) < _TOKEN_AGE

    def _is_digest(self, authorization: str, path: str) -> bool:
        found = dict(re.findall(r'(\w+)="?([^",]*)"?', authorization))
        secret = _md5(f"{self.user}:sim:{self.password}")
        request = _md5(f"POST:{path}")
        right = _md5(f"{secret}:{self._http_nonce}:{found.get('nc')}:{found.get('cnonce')}:auth:{request}")
        return authorization.startswith("Digest ") and found.get("response") == right

    def answer(self, envelope: str) -> str | None:
        """The SOAP body that answers a request; None for a call that is not known here."""
        body = envelope.partition("Body>")[2]
        if "GetSystemDateAndTime" in body:
            return self._date_and_time()
        if "GetDeviceInformation" in body:
            return "<i><Manufacturer>Simulated</Manufacturer><Model>SIM-1</Model></i>"
        if "GetServices" in body and self.media2:
            media_url = self.faults.media_url or self.service
            return "".join(
                f"<Service><Namespace>{name}</Namespace><XAddr>{media_url}</XAddr></Service>"
                for name in (_DEVICE, _MEDIA, _MEDIA2)
            )
        if "GetCapabilities" in body:
            return f"<c><Media><XAddr>{self.faults.media_url or self.service}</XAddr></Media></c>"
        if "GetProfiles" in body:
            return self._profiles(_MEDIA2 if _MEDIA2 in body else _MEDIA)
        asked = re.search(r"<ProfileToken>p(\d+)</ProfileToken>", body)
        return f"<u><Uri>{escape(self.profiles[int(asked[1])].uri)}</Uri></u>" if asked else None

    def _date_and_time(self) -> str:
        now = self.now()
        time = f"<Hour>{now.hour}</Hour><Minute>{now.minute}</Minute><Second>{now.second}</Second>"
        date = f"<Year>{now.year}</Year><Month>{now.month}</Month><Day>{now.day}</Day>"
        return f"<r><UTCDateTime><Time>{time}</Time><Date>{date}</Date></UTCDateTime></r>"

    def _profiles(self, namespace: str) -> str:
        source, encoder = (
            ("VideoSource", "VideoEncoder")
            if namespace == _MEDIA2
            else ("VideoSourceConfiguration", "VideoEncoderConfiguration")
        )
        return "".join(
            f"<m:Profiles xmlns:m='{namespace}' token='p{number}'><m:Name>p</m:Name>"
            f"<m:{source} token='v'><SourceToken>{profile.source}</SourceToken></m:{source}>"
            f"<m:{encoder} token='e'><Encoding>{profile.codec}</Encoding><Resolution><Width>{profile.width}</Width>"
            f"<Height>{profile.height}</Height></Resolution></m:{encoder}></m:Profiles>"
            for number, profile in enumerate(self.profiles)
        )


class _Handler(BaseHTTPRequestHandler):
    served: OnvifDevice

    def do_POST(self) -> None:
        device, faults = self.served, self.served.faults
        envelope = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        authorization = self.headers.get("Authorization", "")
        if authorization:
            device.authorizations.append(authorization)
        if "GetSystemDateAndTime" not in envelope and not device.let_in(envelope, authorization, self.path):
            self._send(*self._refusal())
            return
        answer = device.answer(envelope)
        body = "<Fault><Code><Value>ActionNotSupported</Value></Code></Fault>" if answer is None else answer
        doctype = _DOCTYPE if faults.doctype else ""
        text = f"{doctype}<s:Envelope xmlns:s='{_SOAP}'><s:Body>{body}</s:Body></s:Envelope>"
        self._send(faults.status if answer is not None else 500, faults.answer or text.encode(), None)

    def _refusal(self) -> tuple[int, bytes, str | None]:
        if self.served.auth != "token":
            return 401, b"", self.served.challenge()
        fault = "<Fault><Code><Value>s:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code></Fault>"
        return 400, f"<s:Envelope xmlns:s='e'><s:Body>{fault}</s:Body></s:Envelope>".encode(), None

    def _send(self, status: int, body: bytes, challenge: str | None) -> None:
        faults = self.served.faults
        self.send_response(status)
        if challenge is not None:
            self.send_header("WWW-Authenticate", challenge)
        if not faults.endless_body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if faults.endless_body:
                while not self.served._stop.is_set():  # noqa: SLF001 — the same module
                    self.wfile.write(b"<x>" * 1000)
            elif faults.one_byte_every_s is not None:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if self.served._stop.wait(faults.one_byte_every_s):  # noqa: SLF001
                        return
            else:
                self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """A test says nothing on standard error."""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
