"""All cameras of a network, asked at the same time, and how they become cameras of this daemon."""

import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from crow_daemon.onvif.device import Channel, Device, ask_device, device_service
from crow_daemon.onvif.discovery import Found
from crow_daemon.registry.camera import Camera, GateMode, RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A device that was asked: what it said, or why it did not."""

    found: Found
    device: Device | None
    error: CrowError | None


def survey(devices: Sequence[Found], credentials: Credentials | None) -> list[Surveyed]:
    """Asks each device for its streams, in the order given. A device that fails is told as such."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="onvif") as pool:
        return list(pool.map(lambda found: _asked(found, credentials), devices))


def named_host(text: str) -> Found:
    """A device that is looked for at an address, `host` or `host:port`. Raises CrowError(UNAVAILABLE, INVALID)."""
    host, _, port = text.partition(":")
    if port and not port.isdecimal():
        raise CrowError(Kind.INVALID, "bad_host", f"--host {text[:80]!r} is no name or IPv4 address, or HOST:PORT")
    try:
        address = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except (OSError, UnicodeError):
        raise CrowError(
            Kind.UNAVAILABLE, "host_unknown", f"the name {host[:80]!r} cannot be looked up; check it, or use an address"
        ) from None
    return Found(str(address), device_service(f"{address}:{port}" if port else str(address)))


def known_as(channel: Channel, cameras: Iterable[Camera]) -> Camera | None:
    """The camera that reads this channel's main stream already."""
    for camera in cameras:
        if isinstance(camera.source, RtspAddress) and _place(camera.source.url) == _place(channel.main.url):
            return camera
    return None


def with_substream(camera: Camera, channel: Channel) -> Camera:
    """A known camera with the channel's smaller stream, where it had none."""
    assert isinstance(camera.source, RtspAddress)
    if camera.source.sub_url is not None or channel.sub is None:
        return camera
    return replace(camera, source=replace(camera.source, sub_url=channel.sub.url))


def as_camera(surveyed: Surveyed, index: int, username: str | None) -> Camera:
    """A fresh camera for a channel of a device."""
    assert surveyed.device is not None
    channel = surveyed.device.channels[index]
    several = len(surveyed.device.channels) > 1
    camera_id = f"cam-{surveyed.found.host.replace('.', '-')}" + (f"-{index + 1}" if several else "")
    name = surveyed.found.name or f"{surveyed.device.maker} {surveyed.device.model}".strip() or camera_id
    address = RtspAddress(channel.main.url, username, sub_url=channel.sub.url if channel.sub else None)
    return Camera(camera_id, f"{name} {index + 1}" if several else name, address, gate=GateMode.ACTIVITY)


def _asked(found: Found, credentials: Credentials | None) -> Surveyed:
    if found.service is None:
        error = CrowError(
            Kind.INVALID, "address_refused", "it names a service on another host, which is not called; try --host"
        )
        return Surveyed(found, None, error)
    try:
        return Surveyed(found, ask_device(found.host, found.service, credentials), None)
    except CrowError as error:
        return Surveyed(found, None, error)


def _place(url: CameraUrl) -> tuple[str, int, str]:
    return url.host, url.effective_port, url.target
