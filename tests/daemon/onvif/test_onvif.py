"""Discovery of cameras, and what they say about their streams, over real UDP and HTTP."""

import socket
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_daemon.onvif.device import Device, ask_device
from crow_daemon.onvif.discovery import GROUP, discover
from crow_daemon.onvif.xml import MAX_ELEMENTS, parse
from crow_daemon.registry.secret import Credentials, Secret
from crow_shared.errors import CrowError, Kind
from crow_sim.onvif.device import OnvifDevice, OnvifFaults, Profile

USER, PASSWORD = "shop & co", "p@ss<w>ord"
LOGIN = Credentials(USER, Secret(PASSWORD))
WAIT_S = 0.6
STREAMS = (
    Profile("door", "H264", 640, 360, "rtsp://127.0.0.1:8554/door/sub"),
    Profile("door", "H265", 1920, 1080, "rtsp://127.0.0.1:8554/door/main?a=1&b=2"),
    Profile("door", "JPEG", 3840, 2160, "rtsp://127.0.0.1:8554/door/jpeg"),
    Profile("door", "H264", 1280, 720, "rtsp://127.0.0.1:8554/door/middle"),
    Profile("till", "H264", 1280, 720, "rtsp://127.0.0.1:8554/till"),
)


def ask(device: OnvifDevice, login: Credentials | None = LOGIN, deadline_s: float = 10.0) -> Device:
    return ask_device(device.host, device.service, login, deadline_s)


def urls(device: Device) -> list[tuple[str, str | None]]:
    return [(one.main.url.text, one.sub.url.text if one.sub else None) for one in device.channels]


def test_a_device_that_answers_is_found_with_its_name_and_service() -> None:
    with OnvifDevice(STREAMS) as device:
        (found,) = discover(WAIT_S, device.discovery)
        assert (found.host, found.service) == ("127.0.0.1", device.service)
        assert (found.name, found.hardware) == ("Till camera", "SIM-1")


def test_a_device_in_the_multicast_group_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    with OnvifDevice(STREAMS, group=(GROUP[0], port)) as device:
        assert [one.service for one in discover(WAIT_S, device.discovery)] == [device.service]


@pytest.mark.parametrize(
    "xaddrs", ["http://192.0.2.7/onvif", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", "http://127.0.0.1@192.0.2.7/"]
)
def test_a_service_on_another_host_is_not_believed(xaddrs: str) -> None:
    with OnvifDevice(STREAMS, faults=OnvifFaults(xaddrs=xaddrs)) as device:
        (found,) = discover(WAIT_S, device.discovery)
        assert found.service is None


def test_of_several_addresses_the_one_on_its_own_host_is_taken() -> None:
    with OnvifDevice(STREAMS) as device:
        device.faults = OnvifFaults(xaddrs=f"http://192.0.2.7/onvif {device.service}")
        (found,) = discover(WAIT_S, device.discovery)
        assert found.service == device.service


def test_an_answer_with_a_document_type_is_no_answer() -> None:
    with OnvifDevice(STREAMS, faults=OnvifFaults(doctype=True)) as device:
        assert discover(WAIT_S, device.discovery) == []


def test_discovery_ends_in_time_however_much_is_sent() -> None:
    began_s = time.monotonic()
    assert discover(0.3, ("127.0.0.1", 1)) == []
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("media2", [True, False])
@pytest.mark.parametrize("auth", ["token", "digest"])
def test_a_device_tells_its_largest_stream_and_its_smallest_per_camera(auth: str, media2: bool) -> None:
    with OnvifDevice(STREAMS, USER, PASSWORD, auth="digest" if auth == "digest" else "token", media2=media2) as device:
        told = ask(device)
    assert (told.maker, told.model) == ("Simulated", "SIM-1")
    assert urls(told) == [
        ("rtsp://127.0.0.1:8554/door/main?a=1&b=2", "rtsp://127.0.0.1:8554/door/sub"),
        ("rtsp://127.0.0.1:8554/till", None),
    ]
    assert (told.channels[0].main.codec, told.channels[0].main.width) == ("hevc", 1920)


def test_a_device_whose_clock_is_wrong_takes_our_login() -> None:
    with OnvifDevice(STREAMS, USER, PASSWORD, clock_ahead_s=-86_400 * 365) as device:
        assert len(ask(device).channels) == 2


@pytest.mark.parametrize("auth", ["token", "digest"])
@pytest.mark.parametrize("login", [None, Credentials(USER, Secret("wrong"))])
def test_a_wrong_login_is_told_apart(login: Credentials | None, auth: str) -> None:
    with (
        OnvifDevice(STREAMS, USER, PASSWORD, auth="digest" if auth == "digest" else "token") as device,
        pytest.raises(CrowError) as failed,
    ):
        ask(device, login)
    assert (failed.value.kind, failed.value.code) == (Kind.UNAUTHENTICATED, "auth_failed")
    assert "wrong" not in failed.value.message


def test_a_password_is_never_sent_in_clear() -> None:
    with OnvifDevice(STREAMS, USER, PASSWORD, auth="basic") as device:
        with pytest.raises(CrowError, match="login"):
            ask(device)
        assert device.authorizations == []


def test_credentials_in_a_stream_s_url_are_dropped_and_another_host_is_refused() -> None:
    inside = replace(STREAMS[4], uri="rtsp://root:pw@127.0.0.1:8554/till")
    outside = replace(STREAMS[4], uri="rtsp://192.0.2.7/till")
    with OnvifDevice([inside]) as device:
        assert urls(ask(device, None)) == [("rtsp://127.0.0.1:8554/till", None)]
    with OnvifDevice([outside]) as device, pytest.raises(CrowError) as failed:
        ask(device, None)
    assert failed.value.code == "address_refused"


def test_a_device_whose_clock_makes_no_sense_is_told_as_one_that_takes_no_login() -> None:
    end_of_time_s = (datetime.max.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() - 60
    with (
        OnvifDevice(STREAMS, USER, PASSWORD, clock_ahead_s=end_of_time_s) as device,
        pytest.raises(CrowError) as failed,
    ):
        ask(device)
    assert failed.value.kind is Kind.UNAUTHENTICATED, "its tokens are good at the end of time alone; that is told"


@pytest.mark.parametrize(
    "url", ["http://192.0.2.7/media", "http://[", "http://127.0.0.1:99999/media", "ftp://127.0.0.1/media", "/media"]
)
def test_a_media_service_anywhere_else_is_not_called(url: str) -> None:
    with (
        OnvifDevice(STREAMS, faults=OnvifFaults(media_url=url)) as device,
        pytest.raises(CrowError) as failed,
    ):
        ask(device)
    assert failed.value.code == "address_refused"


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (OnvifFaults(doctype=True), "bad_xml"),
        (OnvifFaults(endless_body=True), "answer_too_large"),
        (OnvifFaults(one_byte_every_s=0.1), "camera_timeout"),
        (OnvifFaults(status=404), "onvif_unsupported"),
        (OnvifFaults(answer=b"<html>hello</html>"), "onvif_unsupported"),
        (OnvifFaults(answer=b"\x00\xff"), "bad_xml"),
    ],
)
def test_a_device_that_misbehaves_is_told_in_time(faults: OnvifFaults, code: str) -> None:
    began_s = time.monotonic()
    with OnvifDevice(STREAMS, faults=faults) as device, pytest.raises(CrowError) as failed:
        ask(device, None, deadline_s=1.0)
    assert failed.value.code == code
    assert time.monotonic() - began_s < 5


def test_nobody_there_is_told() -> None:
    with pytest.raises(CrowError) as failed:
        ask_device("127.0.0.1", "http://127.0.0.1:1/onvif/device_service", None, 1.0)
    assert failed.value.kind is Kind.UNAVAILABLE


@pytest.mark.parametrize(
    "document",
    [
        b"<a>" * 100 + b"</a>" * 100,
        b"<r>" + b"<a/>" * (MAX_ELEMENTS + 1) + b"</r>",
        b'<!DOCTYPE a [<!ENTITY x "1">]><a>&x;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY x "1">]><a>&x;</a>'.encode("utf-16"),
        b"<a>" + b" " * (600 << 10) + b"</a>",
        b"",
    ],
)
def test_xml_beyond_what_is_read_is_refused(document: bytes) -> None:
    with pytest.raises(CrowError) as failed:
        parse(document)
    assert failed.value.code == "bad_xml"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text("<>/ab=\"' &;![]-", max_size=200).map(str.encode))
def test_no_bytes_raise_anything_but_our_own_error(document: bytes) -> None:
    with suppress(CrowError):
        parse(document)
