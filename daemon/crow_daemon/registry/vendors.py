"""Where cameras and recorders of well-known makers have their streams.

Sources, read in November 2026:
- Hikvision: techage.com "What is the URL format for RTSP Hikvision?", help.dayta.ai "How do I get the RTSP stream URL":
  /Streaming/Channels/, the channel's number, then 01 for the main stream and 02 for the smaller one.
- Dahua (and Amcrest, Lorex): help.dayta.ai, blog.router-switch.com "RTSP formats of hot brands": channels count from 1,
  subtype 0 is the main stream and 1 the smaller one.
- Axis: developer.axis.com/vapix "Video streaming": axis-media/media.amp with `camera`, `videocodec` and `resolution`.
- Reolink: support.reolink.com "Introduction to RTSP": Preview_CHANNEL_STREAM with two digits, main or sub.
- TP-Link Tapo and VIGI: actutana.com "Video streaming: what is RTSP streaming?": stream1; stream2 is the smaller one.
  These are cameras only, without channels. The login is the "camera account" of the app, not TP-Link's.
- UniFi Protect: docs.frigate.video "Camera specific", github.com/AlexxIT/go2rtc: the recorder makes up a word for each
  stream, which its web page shows; rtsps on port 7441, without `?enableSrtp` at the end.
"""

from dataclasses import dataclass
from enum import StrEnum

from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind

CHANNELS = (1, 99)


class Vendor(StrEnum):
    """Makers whose URLs are known."""

    AXIS = "axis"
    DAHUA = "dahua"
    HIKVISION = "hikvision"
    REOLINK = "reolink"
    TP_LINK = "tp-link"
    UNIFI = "unifi"


@dataclass(frozen=True, slots=True)
class Preset:
    """The streams of a maker's device; `{host}`, `{channel}` and `{token}` stand for what an installer gives.

    `sub` is None where the smaller stream's URL does not follow from that. `note` is for the installer.
    """

    maker: str
    main: str
    sub: str | None
    note: str

    @property
    def has_channels(self) -> bool:
        """Whether one device serves several cameras."""
        return "{channel" in self.main

    @property
    def wants_token(self) -> bool:
        """Whether a word is needed that the device made up."""
        return "{token}" in self.main


PRESETS = {
    Vendor.AXIS: Preset(
        "Axis",
        "rtsp://{host}/axis-media/media.amp?camera={channel}&videocodec=h264",
        "rtsp://{host}/axis-media/media.amp?camera={channel}&videocodec=h264&resolution=640x360",
        "a camera that is not 16:9 wants another resolution in --sub-url",
    ),
    Vendor.DAHUA: Preset(
        "Dahua, Amcrest, Lorex",
        "rtsp://{host}/cam/realmonitor?channel={channel}&subtype=0",
        "rtsp://{host}/cam/realmonitor?channel={channel}&subtype=1",
        "",
    ),
    Vendor.HIKVISION: Preset(
        "Hikvision, and makers that sell its devices",
        "rtsp://{host}/Streaming/Channels/{channel}01",
        "rtsp://{host}/Streaming/Channels/{channel}02",
        "",
    ),
    Vendor.REOLINK: Preset(
        "Reolink",
        "rtsp://{host}/Preview_{channel:02}_main",
        "rtsp://{host}/Preview_{channel:02}_sub",
        "switch RTSP on in the camera's port settings",
    ),
    Vendor.TP_LINK: Preset(
        "TP-Link Tapo, VIGI",
        "rtsp://{host}/stream1",
        "rtsp://{host}/stream2",
        "log in with the camera account that the app sets up",
    ),
    Vendor.UNIFI: Preset(
        "UniFi Protect",
        "rtsps://{host}:7441/{token}",
        None,
        "switch the stream on in Protect; --token is the last part of its address; a smaller one goes in --sub-url",
    ),
}


def stream_urls(
    vendor: Vendor, host: str, channel: int | None = None, token: str | None = None
) -> tuple[CameraUrl, CameraUrl | None]:
    """The URLs of main and smaller stream. `host` is a name or address, with a port if it is not the usual one.

    Raises CrowError(INVALID) for what makes no URL.
    """
    preset = PRESETS[vendor]
    if channel is not None and not preset.has_channels:
        raise _bad(f"{vendor} devices have no channels: leave --channel out")
    if channel is not None and not CHANNELS[0] <= channel <= CHANNELS[1]:
        raise _bad(f"a channel is a number from {CHANNELS[0]} to {CHANNELS[1]}")
    if preset.wants_token != (token is not None):
        raise _bad(f"{vendor} needs --token: {preset.note}" if preset.wants_token else f"{vendor} takes no --token")
    if any(character in host for character in "/?#@"):
        raise _bad("--host is a name or an address, with :PORT behind it if need be")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    if ":" in host.rpartition("]")[2]:  # a port of its own takes the place of the maker's
        given = [template and template.replace("{host}:7441", "{host}") for template in (preset.main, preset.sub)]
    else:
        given = [preset.main, preset.sub]
    filled = [
        None if template is None else CameraUrl.parse(template.format(host=host, channel=channel or 1, token=token))
        for template in given
    ]
    main, sub = filled
    assert main is not None
    return main, sub


def _bad(message: str) -> CrowError:
    return CrowError(Kind.INVALID, "bad_vendor", message)
