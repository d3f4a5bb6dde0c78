"""The URLs of well-known makers."""

import pytest

from crow_daemon.registry.vendors import PRESETS, Vendor, stream_urls
from crow_shared.errors import CrowError


@pytest.mark.parametrize(
    ("vendor", "channel", "main", "sub"),
    [
        ("hikvision", None, "/Streaming/Channels/101", "/Streaming/Channels/102"),
        ("hikvision", 12, "/Streaming/Channels/1201", "/Streaming/Channels/1202"),
        ("dahua", 3, "/cam/realmonitor?channel=3&subtype=0", "/cam/realmonitor?channel=3&subtype=1"),
        ("reolink", 4, "/Preview_04_main", "/Preview_04_sub"),
        ("tp-link", None, "/stream1", "/stream2"),
    ],
)
def test_a_maker_s_streams_are_where_its_devices_have_them(
    vendor: str, channel: int | None, main: str, sub: str
) -> None:
    urls = stream_urls(Vendor(vendor), "192.168.1.64", channel)
    assert [url and url.text for url in urls] == [f"rtsp://192.168.1.64{main}", f"rtsp://192.168.1.64{sub}"]


def test_unifi_has_a_word_for_each_stream() -> None:
    assert stream_urls(Vendor.UNIFI, "nvr.shop", token="Ab3")[0].text == "rtsps://nvr.shop:7441/Ab3"
    assert stream_urls(Vendor.UNIFI, "nvr.shop:8441", token="Ab3")[0].text == "rtsps://nvr.shop:8441/Ab3"


def test_a_host_may_have_a_port_or_be_of_ip_version_6() -> None:
    assert stream_urls(Vendor.TP_LINK, "10.0.0.9:8554")[0].text == "rtsp://10.0.0.9:8554/stream1"
    assert stream_urls(Vendor.TP_LINK, "fd00::9")[0].text == "rtsp://[fd00::9]/stream1"
    assert stream_urls(Vendor.TP_LINK, "[fd00::9]:8554")[0].text == "rtsp://[fd00::9]:8554/stream1"


@pytest.mark.parametrize(
    ("vendor", "host", "channel", "token"),
    [
        ("tp-link", "10.0.0.9", 2, None),
        ("hikvision", "10.0.0.9", 0, None),
        ("hikvision", "10.0.0.9", None, "Ab3"),
        ("hikvision", "10.0.0.9/x", None, None),
        ("hikvision", "admin:pw@10.0.0.9", None, None),
        ("hikvision", "", None, None),
        ("unifi", "10.0.0.9", None, None),
    ],
)
def test_what_makes_no_url_is_refused(vendor: str, host: str, channel: int | None, token: str | None) -> None:
    with pytest.raises(CrowError):
        stream_urls(Vendor(vendor), host, channel, token)


def test_every_maker_has_a_preset() -> None:
    assert set(PRESETS) == set(Vendor)
