"""Promise: what is asked of a camera is what RFC 2326 says, as cameras mean it, and nothing goes anywhere else."""

import socket

import pytest
from direct_rig import reading
from scripted_camera import camera

from crow_daemon.rtsp.session import joined
from crow_shared.errors import CrowError, Kind

OPTIONS = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
H264 = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 {parameters}\r\na=control:{control}\r\n"
PARAMETERS = "packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg=="


class Script:
    """The answers of a camera; what a test changes is wrong with it."""

    def __init__(self) -> None:
        self.options = OPTIONS
        self.describe_headers = ""
        self.session = ""
        self.control, self.parameters = "track1", PARAMETERS
        self.media = H264
        self.statuses: dict[str, str] = {}
        self.setup_headers = "Session: 4711;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"

    def respond(self, connection: socket.socket, request: str, number: int) -> None:
        method = request.partition(" ")[0]
        headers, body = "", ""
        match method:
            case "OPTIONS":
                headers = self.options
            case "DESCRIBE":
                headers = self.describe_headers
                media = self.media.format(control=self.control, parameters=self.parameters)
                body = f"v=0\r\n{self.session}m=audio 0 RTP/AVP 0\r\na=control:sound\r\n{media}"
            case "SETUP":
                headers = self.setup_headers
        status = self.statuses.get(method, "200 OK")
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{headers}{length}\r\n{body}".encode())


def asked(script: Script, login: None = None) -> list[tuple[str, str]]:
    """Methods and URLs that an open and a close make, the camera's own address left out."""
    with camera(script.respond) as (url, requests), reading(url.text, login) as source:
        source.open()
        source.stop()
        source.close()
        here = f"rtsp://{url.authority}"
        return [(request.split()[0], request.split()[1].replace(here, "")) for request in requests]


def failure(script: Script) -> CrowError:
    with camera(script.respond) as (url, _), reading(url.text, None) as source, pytest.raises(CrowError) as caught:
        source.open()
    return caught.value


def test_a_session_is_begun_and_ended_by_its_urls() -> None:
    requests = asked(Script())
    assert requests == [
        ("OPTIONS", "/stream?a=b"),
        ("DESCRIBE", "/stream?a=b"),
        ("SETUP", "/stream?a=b/track1"),
        ("PLAY", "/stream?a=b"),
        ("TEARDOWN", "/stream?a=b"),
    ]


def test_content_base_and_controls_name_the_parts() -> None:
    script = Script()
    script.describe_headers = "Content-Base: rtsp://10.0.0.8/inner/\r\n"
    script.session = "a=control:rtsp://10.0.0.8/all\r\n"
    requests = asked(script)
    assert requests[2:] == [
        ("SETUP", "rtsp://10.0.0.8/inner/track1"),
        ("PLAY", "rtsp://10.0.0.8/all"),
        ("TEARDOWN", "rtsp://10.0.0.8/all"),
    ]


@pytest.mark.parametrize(
    ("base", "control", "url"),
    [
        ("rtsp://c/a", None, "rtsp://c/a"),
        ("rtsp://c/a", "track1", "rtsp://c/a/track1"),
        ("rtsp://c/a/", "/track1", "rtsp://c/a/track1"),
        ("rtsp://c/a?x=1&y=2", "trackID=0", "rtsp://c/a?x=1&y=2/trackID=0"),
        ("rtsp://c/a", "rtsp://d/b%20c", "rtsp://d/b%20c"),
    ],
)
def test_a_part_is_named_as_cameras_do_it(base: str, control: str | None, url: str) -> None:
    assert joined(base, control) == url


def test_other_channels_than_those_asked_for_are_taken() -> None:
    script = Script()
    script.setup_headers = "Session: a\r\nTransport: RTP/AVP/TCP;interleaved=4-5;ssrc=1\r\n"
    with camera(script.respond) as (url, _), reading(url.text, None) as source:
        source.open()
        assert source._session.channels == (4, 5)


@pytest.mark.parametrize(
    ("change", "kind", "code", "words"),
    [
        ({"parameters": "packetization-mode=2"}, Kind.UNSUPPORTED, "direct_unsupported", "interleaved"),
        (
            {"media": H264.replace("H264/", "H265/"), "parameters": "sprop-max-don-diff=2"},
            Kind.UNSUPPORTED,
            "direct_unsupported",
            "interleaved",
        ),
        (
            {"statuses": {"SETUP": "461 Unsupported Transport"}},
            Kind.UNSUPPORTED,
            "transport_refused",
            "--transport udp",
        ),
        ({"media": "m=video 0 RTP/AVP 26\r\n"}, Kind.UNSUPPORTED, "codec_unsupported", "JPEG"),
        ({"media": ""}, Kind.UNSUPPORTED, "no_video", "no video"),
        ({"control": "rtsp://c/a b"}, Kind.CORRUPT, "bad_description", "no URL"),
        ({"control": "x" * 3000}, Kind.CORRUPT, "bad_description", "no URL"),
        ({"setup_headers": ""}, Kind.CORRUPT, "bad_session", "without a session"),
        ({"statuses": {"SETUP": "453 Not Enough Bandwidth"}}, Kind.EXHAUSTED, "camera_refused", "453"),
        ({"statuses": {"PLAY": "404 Not Found"}}, Kind.NOT_FOUND, "stream_not_found", "404"),
        ({"statuses": {"SETUP": "302 Moved"}}, Kind.INVALID, "redirect_refused", "redirects"),
    ],
)
def test_what_a_camera_may_say_wrongly_has_its_failure(
    change: dict[str, object], kind: Kind, code: str, words: str
) -> None:
    script = Script()
    for name, value in change.items():
        setattr(script, name, value)
    error = failure(script)
    assert (error.kind, error.code) == (kind, code)
    assert words in error.message


def test_an_encrypted_camera_is_for_another_reader() -> None:
    with reading("rtsps://127.0.0.1/x", None) as source, pytest.raises(CrowError) as caught:
        source.open()
    assert caught.value.code == "direct_unsupported"


@pytest.mark.parametrize("refusal", ["401 Unauthorized", "403 Forbidden"])
def test_a_wrong_password_is_given_once_also_where_every_request_needs_one(refusal: str) -> None:
    def respond(connection: socket.socket, request: str, number: int) -> None:
        status = refusal if "Authorization" in request else "401 Unauthorized"
        challenge = f'WWW-Authenticate: Digest realm="c", nonce="{number}"'
        connection.sendall(f"RTSP/1.0 {status}\r\n{challenge}\r\n\r\n".encode())

    with camera(respond) as (url, requests), reading(url.text) as source, pytest.raises(CrowError) as caught:
        source.open()
    assert caught.value.code == "auth_failed"
    assert ["Authorization" in request for request in requests] == [False, True]


@pytest.mark.parametrize("status", ["501 Not Implemented", "405 Method Not Allowed", "551 Option Not Supported"])
def test_a_camera_without_options_is_read_all_the_same(status: str) -> None:
    script = Script()
    script.statuses = {"OPTIONS": status}
    script.options = ""
    assert [method for method, _ in asked(script)][1:] == ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
