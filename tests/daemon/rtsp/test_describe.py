"""Asking cameras that are hostile or broken at the level of bytes."""

import hashlib
import re
import socket
import time
from collections.abc import Callable

import pytest
from camera_rig import CANARY, LOGIN, USER
from scripted_camera import camera

from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.describe import describe
from crow_daemon.rtsp.login import authorization, best_challenge
from crow_shared.errors import CrowError, Kind

SDP = b"v=0\r\nm=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 %s/90000\r\nm=application 0 RTP/AVP 107\r\n"


def ok(codec: bytes = b"H264") -> bytes:
    body = SDP % codec
    return b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def unauthorized(*challenges: bytes) -> bytes:
    return b"RTSP/1.0 401 Unauthorized\r\n" + b"".join(b"WWW-Authenticate: %s\r\n" % c for c in challenges) + b"\r\n"


def answering(*answers: bytes) -> Callable[[socket.socket, str, int], None]:
    return lambda connection, _, number: connection.sendall(answers[min(number, len(answers)) - 1])


def failure(*answers: bytes, deadline_s: float = 2.0) -> CrowError:
    with camera(answering(*answers)) as (url, _), pytest.raises(CrowError) as caught:
        describe(url, LOGIN, deadline_s)
    assert CANARY not in repr(caught.value)
    return caught.value


def test_a_camera_that_asks_for_nothing_gets_no_credentials() -> None:
    with camera(answering(ok(b"H265"))) as (url, requests):
        assert describe(url, LOGIN, 2.0).codec == "H265"
    assert len(requests) == 1
    assert "Authorization" not in requests[0]
    assert USER not in requests[0]


@pytest.mark.parametrize(
    ("challenge", "algorithm"),
    [
        (b'Digest realm="cam", nonce="n1"', "md5"),
        (b'Digest realm="cam", nonce="n1", qop="auth,auth-int", opaque="o", algorithm=MD5', "md5"),
        (b'Digest realm="cam", nonce="n1", algorithm="MD5-sess", qop="auth"', "md5"),
        (b'Digest realm="cam", nonce="n1", algorithm=SHA-256, qop="auth"', "sha256"),
    ],
)
def test_digest_answers_are_what_the_rfc_says(challenge: bytes, algorithm: str) -> None:
    with camera(answering(unauthorized(challenge), ok())) as (url, requests):
        describe(url, LOGIN, 2.0)
    assert CANARY not in requests[1]
    fields = dict(re.findall(r'(\w+)="?([^",\r]*)"?', requests[1].partition("Authorization: Digest ")[2]))

    def hashed(text: str) -> str:
        return hashlib.new(algorithm, text.encode()).hexdigest()

    secret = hashed(f"{USER}:cam:{CANARY}")
    if b"sess" in challenge:
        secret = hashed(f"{secret}:n1:{fields['cnonce']}")
    middle = f"n1:00000001:{fields['cnonce']}:auth" if b"qop" in challenge else "n1"
    assert fields["response"] == hashed(f"{secret}:{middle}:{hashed(f'DESCRIBE:{url.text}')}")


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_a_realm_is_hashed_and_said_again_byte_by_byte_and_a_login_of_ours_is_utf_8(charset: str) -> None:
    realm, login = "Kassenhäuschen".encode(charset), Credentials("müller", Secret("schlüssel"))
    with camera(answering(unauthorized(b'Digest realm="%s", nonce="n1"' % realm), ok())) as (url, requests):
        describe(url, login, 2.0)
    sent = requests[1].encode("latin-1")
    assert b'realm="%s"' % realm in sent
    assert 'username="müller"'.encode() in sent
    secret = hashlib.md5(b"%s:%s:%s" % ("müller".encode(), realm, "schlüssel".encode())).hexdigest()
    action = hashlib.md5(f"DESCRIBE:{url.text}".encode()).hexdigest()
    assert hashlib.md5(f"{secret}:n1:{action}".encode()).hexdigest().encode() in sent


def test_digest_is_preferred_to_basic() -> None:
    challenge = best_challenge(['Basic realm="c"', 'Digest realm="c", nonce="n"'])
    assert challenge is not None
    assert authorization(challenge, LOGIN, "DESCRIBE", "rtsp://c/").startswith("Digest ")


def test_a_second_401_is_a_wrong_password_and_is_not_tried_a_third_time() -> None:
    with camera(answering(unauthorized(b'Basic realm="c"'))) as (url, requests):
        with pytest.raises(CrowError) as caught:
            describe(url, LOGIN, 2.0)
        assert caught.value.kind is Kind.UNAUTHENTICATED
        assert len(requests) == 2


def test_without_credentials_the_failure_says_how_to_set_them() -> None:
    with camera(answering(unauthorized(b'Basic realm="c"'))) as (url, _):
        with pytest.raises(CrowError, match="--username") as caught:
            describe(url, None, 2.0)
        assert caught.value.code == "auth_failed"


def test_an_authentication_that_nobody_knows_is_unsupported() -> None:
    assert failure(unauthorized(b"Negotiate abc")).code == "auth_unsupported"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (b"RTSP/1.0 404 Not Found\r\n\r\n", Kind.NOT_FOUND, "stream_not_found"),
        (b"RTSP/1.0 453 Not Enough Bandwidth\r\n\r\n", Kind.EXHAUSTED, "camera_refused"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Kind.CORRUPT, "not_rtsp"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Kind.CORRUPT, "not_rtsp"),
        (b"RTSP/1.0 abc\r\n\r\n", Kind.CORRUPT, "not_rtsp"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 2147483648\r\n\r\n", Kind.TOO_LARGE, "answer_too_large"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -5\r\n\r\n", Kind.CORRUPT, "not_rtsp"),
        (b"RTSP/1.0 200 OK\r\n" + b"X: y\r\n" * 10_000, Kind.TOO_LARGE, "answer_too_large"),
        (b"RTSP/1.0 200 OK\r\n\r\n", Kind.UNSUPPORTED, "no_video"),
        (ok(b"AV1"), Kind.UNSUPPORTED, "codec_unsupported"),
        (b"RTSP/1.0 302 Found\r\nLocation: rtsp://169.254.169.254/x\r\n\r\n", Kind.INVALID, "redirect_refused"),
        (b"RTSP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", Kind.INVALID, "redirect_refused"),
        (b"RTSP/1.0 302 Found\r\n\r\n", Kind.INVALID, "redirect_refused"),
    ],
)
def test_each_bad_answer_has_its_failure(answer: bytes, kind: Kind, code: str) -> None:
    error = failure(answer)
    assert (error.kind, error.code) == (kind, code)


def test_a_redirect_within_the_camera_is_followed_once() -> None:
    def respond(connection: socket.socket, request: str, number: int) -> None:
        if "/moved" in request:
            connection.sendall(ok())
        else:
            port = connection.getsockname()[1]
            connection.sendall(b"RTSP/1.0 301 Moved\r\nLocation: rtsp://127.0.0.1:%d/moved\r\n\r\n" % port)

    with camera(respond) as (url, _):
        assert describe(url, LOGIN, 2.0).url.target == "/moved"


def test_a_redirect_loop_ends_after_one() -> None:
    def respond(connection: socket.socket, request: str, number: int) -> None:
        port = connection.getsockname()[1]
        connection.sendall(b"RTSP/1.0 301 Moved\r\nLocation: rtsp://127.0.0.1:%d/%d\r\n\r\n" % (port, number))

    with camera(respond) as (url, requests):
        with pytest.raises(CrowError) as caught:
            describe(url, LOGIN, 2.0)
        assert caught.value.code == "redirect_refused"
        assert len(requests) == 2


def test_a_camera_that_drips_bytes_is_given_up_at_the_deadline() -> None:
    def drip(connection: socket.socket, request: str, number: int) -> None:
        connection.sendall(b"RTSP/1.0 200 OK\r\nX: ")
        for _ in range(200):
            connection.sendall(b"y")
            time.sleep(0.02)

    began_s = time.monotonic()
    with camera(drip) as (url, _), pytest.raises(CrowError) as caught:
        describe(url, LOGIN, 0.5)
    assert caught.value.code == "camera_timeout"
    assert time.monotonic() - began_s < 5


def test_a_closed_port_and_an_unknown_name_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CrowError) as refused:
        describe(CameraUrl.parse(f"rtsp://127.0.0.1:{port}/"), None, 2.0)
    with pytest.raises(CrowError) as unknown:
        describe(CameraUrl.parse("rtsp://no-such-camera.invalid/"), None, 2.0)
    assert (refused.value.code, unknown.value.code) == ("unreachable", "host_unknown")


def test_rtsps_to_a_camera_without_tls_is_told() -> None:
    with camera(answering(ok())) as (url, _), pytest.raises(CrowError) as caught:
        describe(CameraUrl.parse(url.text.replace("rtsp:", "rtsps:")), None, 2.0)
    assert caught.value.code in ("tls_failed", "unreachable")
