"""Only RTSP reaches libav, and credentials are never part of what is shown."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "file:clip.mp4",
        "http://192.168.1.64/video",
        "https://x/y",
        "concat:a.mp4|b.mp4",
        "subfile,,start,0,end,1,,:/etc/passwd",
        "/etc/passwd",
        "clip.mp4",
        "",
        "rtmp://x/y",
        "-i",
        "javascript:alert(1)",
    ],
)
def test_other_schemes_are_refused_and_the_message_says_what_is_allowed(text: str) -> None:
    with pytest.raises(CrowError, match="rtsp:// or rtsps://") as caught:
        CameraUrl.parse(text)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "url_scheme")


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://",
        "rtsp:///stream",
        "rtsp:host/stream",
        "rtsp:file:///etc/passwd",
        "rtsp://host:0/x",
        "rtsp://host:65536/x",
        "rtsp://host:abc/x",
        "rtsp://ho st/x",
        "rtsp://host/x y",
        "rtsp://host/x\r\nX-Injected: 1",
        "rtsp://host/\x00",
        "rtsp://host/\u202e",
        "rtsp://[::1/x",
        "rtsp://host/a#b",
        "rtsp://ho|st/x",
        "rtsp://host/" + "x" * 3000,
    ],
)
def test_what_cannot_be_a_camera_is_refused(text: str) -> None:
    with pytest.raises(CrowError) as caught:
        CameraUrl.parse(text)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "url_malformed")


@pytest.mark.parametrize(
    "text", ["rtsp://shop:s3cret@cam/1", "rtsp://shop@cam/1", "rtsp://@cam/1", "rtsp://a:b:c@d@cam/"]
)
def test_credentials_in_a_url_are_refused_with_the_reason_and_not_repeated(text: str) -> None:
    with pytest.raises(CrowError, match="--password-stdin") as caught:
        CameraUrl.parse(text)
    assert caught.value.code == "url_credentials"
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("rtsp://192.168.1.64/Streaming/Channels/101", "192.168.1.64:554"),
        ("RTSP://Camera.local:8554/cam/realmonitor?channel=1&subtype=0", "camera.local:8554"),
        ("rtsps://cam/x", "cam:322"),
        ("rtsp://[::1]/x", "[::1]:554"),
        ("rtsp://cam", "cam:554"),
    ],
)
def test_urls_of_real_cameras_are_accepted(text: str, authority: str) -> None:
    url = CameraUrl.parse(text)
    assert url.authority == authority
    assert CameraUrl.parse(url.text) == url


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_password_survives_the_way_into_a_url(password: str) -> None:
    made = CameraUrl.parse("rtsp://cam:8554/x?y=z").for_libav(Credentials("us@er:", Secret(password)))
    parts = urlsplit(made)
    assert (parts.hostname, parts.port, parts.path, parts.query) == ("cam", 8554, "/x", "y=z")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == ("us@er:", password)


def test_a_password_in_the_path_is_used_but_not_shown() -> None:
    url = CameraUrl.parse("rtsp://cam/user=admin&password=s3cret&channel=1?pwd=s3cret")
    assert "s3cret" in url.text
    assert "s3cret" not in f"{url} {url!r}"
    assert str(url) == "rtsp://cam/user=admin&password=***&channel=1?pwd=***"
