"""Network addresses as settings hold them: host:port, an IPv6 host in brackets."""

from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator

_MOST_PORT = 65_535


def valid_address(address: str) -> str:
    """Returns `address` when it is host:port. Raises ValueError, as pydantic wants it, when it is not."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _MOST_PORT:
        raise ValueError(f"{address!r} is not host:port")
    return address


Address = Annotated[str, AfterValidator(valid_address)]


def is_loopback(address: str) -> bool:
    """Whether host:port names this machine only; a name other than localhost counts as elsewhere."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
