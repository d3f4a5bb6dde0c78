"""Which cameras answer in this network: WS-Discovery 1.1 (OASIS, 2009) as ONVIF Core 7.3 uses it, over IPv4.

Invariants
1. Only answers to our own question count, and of each sender one.
2. A service is taken to be on the host that answered. What names another host is refused: whoever answers could
   otherwise send us, and the login that we hold, anywhere.
3. It ends in time, however much is sent to us.
"""

import selectors
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from crow_daemon.onvif.xml import Element, parse
from crow_shared.errors import CrowError, Kind

GROUP = ("239.255.255.250", 3702)
MAX_DEVICES = 1024
_MAX_DATAGRAM_BYTES = 65_535
_SENT_AT_S = (0.0, 0.5)  # UDP loses some
_MAX_SHOWN_CHARACTERS = 60
_PROBE = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
    ' xmlns:n="http://www.onvif.org/ver10/network/wsdl"><e:Header>'
    "<a:MessageID>{message_id}</a:MessageID>"
    "<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>"
    "<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>"
    "</e:Header><e:Body><d:Probe><d:Types>n:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered from `host`. `service` is the URL of its device service, None when it is refused.

    `name` and `hardware` are what it calls itself; empty where it does not say.
    """

    host: str
    service: str | None
    name: str = ""
    hardware: str = ""


def discover(wait_s: float, target: tuple[str, int] = GROUP) -> list[Found]:
    """The devices that answer within `wait_s`, by host. Asks through every interface.

    Raises CrowError(UNAVAILABLE) when no interface lets us ask.
    """
    message_id = f"uuid:{uuid4()}"
    probe = _PROBE.format(message_id=message_id).encode()
    found: dict[str, Found] = {}
    with ExitStack() as opened, selectors.DefaultSelector() as selector:
        for one in _sockets():
            selector.register(opened.enter_context(one), selectors.EVENT_READ)
        began_s = time.monotonic()
        pending = list(_SENT_AT_S)
        while (now_s := time.monotonic() - began_s) < wait_s and len(found) < MAX_DEVICES:
            if pending and now_s >= pending[0]:
                pending.pop(0)
                asked = [_ask(key.fileobj, probe, target) for key in selector.get_map().values()]
                if not any(asked):
                    raise CrowError(
                        Kind.UNAVAILABLE, "no_network", "no network interface lets a discovery out; give --host"
                    )
            until_s = min([wait_s, *pending])
            for key, _ in selector.select(max(0.0, until_s - now_s)):
                _take(key.fileobj, message_id, found)
    return [found[host] for host in sorted(found, key=_by_number)]


def _sockets() -> list[socket.socket]:
    """One for each interface, which a datagram to the group leaves by."""
    made = []
    for index, _ in socket.if_nameindex():
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setblocking(False)
        try:  # ip_mreqn: any group, any address, this interface
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
        except OSError:
            one.close()
        else:
            made.append(one)
    return made


def _ask(one: object, probe: bytes, target: tuple[str, int]) -> bool:
    assert isinstance(one, socket.socket)
    try:
        return one.sendto(probe, target) > 0
    except OSError:  # an interface without an IPv4 address, or that is down
        return False


def _take(one: object, message_id: str, found: dict[str, Found]) -> None:
    assert isinstance(one, socket.socket)
    with suppress(OSError, CrowError):  # an ICMP error; something that is no answer
        datagram, sender = one.recvfrom(_MAX_DATAGRAM_BYTES)
        envelope = parse(datagram)
        match = envelope.first("ProbeMatch")
        if match is not None and envelope.text_of("Header", "RelatesTo") == message_id:
            found.setdefault(sender[0], _found(sender[0], match))


def _found(host: str, match: Element) -> Found:
    scopes = match.text_of("Scopes").split()
    services = [url for url in match.text_of("XAddrs").split() if _is_on(url, host)]
    return Found(host, services[0] if services else None, _scope(scopes, "name"), _scope(scopes, "hardware"))


def _is_on(url: str, host: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.hostname == host and port != 0


def _scope(scopes: list[str], name: str) -> str:
    """The part of a scope like onvif://www.onvif.org/name/Till behind its kind."""
    for scope in scopes:
        _, found, value = scope.partition(f"/{name}/")
        if found and scope.startswith("onvif://"):
            return shown(unquote(value))
    return ""


def shown(text: str) -> str:
    """What a device says of itself, fit for a terminal and for a camera's name."""
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_SHOWN_CHARACTERS].strip()


def _by_number(host: str) -> tuple[int, ...]:
    return tuple(int(part) for part in host.split("."))
