"""What an ONVIF device says about its cameras: their main stream and a smaller one (ONVIF Device, Media and Media2).

Whatever URL a device names, it is used only on the device's own host.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from crow_daemon.onvif.discovery import shown
from crow_daemon.onvif.soap import SoapClient
from crow_daemon.onvif.xml import Element
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind

DEADLINE_S = 10.0
MAX_PROFILES = 128
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_MEDIA2 = "http://www.onvif.org/ver20/media/wsdl"  # the one that knows H.265
_SCHEMA = "http://www.onvif.org/ver10/schema"
_CODECS = {"H264": "h264", "H265": "hevc", "HEVC": "hevc"}
_MOST_AHEAD = timedelta(days=366 * 100)  # a clock further off makes no sense, and no token
_SMALLEST_PIXELS = 160 * 90  # less shows a gate nothing


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a device; width and height in pixels."""

    url: CameraUrl
    codec: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Channel:
    """One camera of a device, with its largest stream and its smallest; `sub` is None where there is only one."""

    main: Stream
    sub: Stream | None


@dataclass(frozen=True, slots=True)
class Device:
    """A camera or recorder: what it calls itself, and its cameras in its own order."""

    maker: str
    model: str
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class _Profile:
    token: str
    source: str
    codec: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def device_service(host: str) -> str:
    """Where devices have their device service (ONVIF Core 5.1.1); `host` may hold a port."""
    return f"http://{host}/onvif/device_service"


def ask_device(host: str, service: str, credentials: Credentials | None, deadline_s: float = DEADLINE_S) -> Device:
    """Asks the device on `host` at its device service.

    Raises CrowError as `SoapClient.call` does; UNSUPPORTED (`no_video`) when it has no stream that we can read.
    """
    client = SoapClient(host, credentials, deadline_s)
    _note_clock(client, service)
    information = client.call(service, f'<GetDeviceInformation xmlns="{_DEVICE}"/>')
    media = _Media(client, service)
    channels = []
    for profiles in _by_source(media.profiles()):
        largest = max(profiles, key=lambda profile: profile.pixels)
        smaller = [one for one in profiles if _SMALLEST_PIXELS <= one.pixels < largest.pixels]
        smallest = min(smaller, key=lambda profile: profile.pixels, default=None)
        channels.append(Channel(media.stream(largest), media.stream(smallest) if smallest else None))
    if not channels:
        raise CrowError(Kind.UNSUPPORTED, "no_video", f"{host} offers no stream of H.264 or H.265")
    maker, model = (shown(information.text_of(name)) for name in ("Manufacturer", "Model"))
    return Device(maker, model, tuple(channels))


class _Media:
    """The media service of a device: the newer one where it has it."""

    def __init__(self, client: SoapClient, device_service_url: str) -> None:
        self._client = client
        services = _services(client, device_service_url)
        self._namespace = _MEDIA2 if _MEDIA2 in services else _MEDIA
        if self._namespace not in services:
            raise CrowError(Kind.UNSUPPORTED, "no_video", "the device has no media service")
        self._url = services[self._namespace]

    def profiles(self) -> list[_Profile]:
        """Those with a codec that we can read."""
        if self._namespace == _MEDIA2:
            wanted = "<Type>VideoSource</Type><Type>VideoEncoder</Type>"
            answer = self._client.call(self._url, f'<GetProfiles xmlns="{_MEDIA2}">{wanted}</GetProfiles>')
            names = ("VideoSource", "VideoEncoder")
        else:
            answer = self._client.call(self._url, f'<GetProfiles xmlns="{_MEDIA}"/>')
            names = ("VideoSourceConfiguration", "VideoEncoderConfiguration")
        read = [_profile(element, *names) for element in answer.all("Profiles")[:MAX_PROFILES]]
        return [profile for profile in read if profile is not None]

    def stream(self, profile: _Profile) -> Stream:
        """Where a profile's stream is. Raises CrowError(INVALID) when that is on another host."""
        token = f"<ProfileToken>{escape(profile.token)}</ProfileToken>"
        if self._namespace == _MEDIA2:
            wanted = f"<Protocol>RTSP</Protocol>{token}"
        else:
            wanted = (
                f'<StreamSetup><t:Stream xmlns:t="{_SCHEMA}">RTP-Unicast</t:Stream>'
                f'<t:Transport xmlns:t="{_SCHEMA}"><t:Protocol>RTSP</t:Protocol></t:Transport></StreamSetup>{token}'
            )
        body = f'<GetStreamUri xmlns="{self._namespace}">{wanted}</GetStreamUri>'
        url = CameraUrl.parse_redirect(self._client.call(self._url, body).text_of("Uri"))
        if url.host != self._client.host:
            raise CrowError(
                Kind.INVALID,
                "address_refused",
                f"{self._client.host} says that its stream is on {url.host}, which is not believed; if that is right, "
                "add the camera with --url",
            )
        return Stream(url, profile.codec, profile.width, profile.height)


def _services(client: SoapClient, url: str) -> dict[str, str]:
    """The URLs of a device's services, by namespace."""
    try:
        body = f'<GetServices xmlns="{_DEVICE}"><IncludeCapability>false</IncludeCapability></GetServices>'
        answer = client.call(url, body)
    except CrowError as error:
        if error.code != "onvif_unsupported":
            raise
        body = f'<GetCapabilities xmlns="{_DEVICE}"><Category>Media</Category></GetCapabilities>'
        return {_MEDIA: client.call(url, body).text_of("Media", "XAddr")}
    return {service.text_of("Namespace"): service.text_of("XAddr") for service in answer.all("Service")}


def _note_clock(client: SoapClient, url: str) -> None:
    """Learns the device's clock, without a login: with a token from another time none is accepted."""
    try:
        told = client.call(url, f'<GetSystemDateAndTime xmlns="{_DEVICE}"/>', log_in=False).first("UTCDateTime")
        if told is not None:
            parts = [int(told.text_of(name)) for name in ("Year", "Month", "Day", "Hour", "Minute", "Second")]
            year, month, day, hour, minute, second = parts
            ahead = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - datetime.now(UTC)
            if abs(ahead) < _MOST_AHEAD:
                client.ahead = ahead
    except CrowError as error:
        if error.code not in ("onvif_unsupported", "auth_failed"):
            raise
    except (ValueError, OverflowError):
        return  # a clock that makes no sense; ours may do


def _profile(element: Element, source_name: str, encoder_name: str) -> _Profile | None:
    encoder = element.first(encoder_name)
    token = element.attributes.get("token", "")
    if encoder is None or not token:
        return None
    codec = _CODECS.get(encoder.text_of("Encoding").upper())
    width, height = encoder.text_of("Resolution", "Width"), encoder.text_of("Resolution", "Height")
    if codec is None or not _is_size(width) or not _is_size(height):
        return None
    return _Profile(token, element.text_of(source_name, "SourceToken"), codec, int(width), int(height))


def _is_size(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5


def _by_source(profiles: list[_Profile]) -> list[list[_Profile]]:
    grouped: dict[str, list[_Profile]] = {}
    for profile in profiles:
        grouped.setdefault(profile.source, []).append(profile)
    return list(grouped.values())
