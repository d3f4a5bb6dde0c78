"""Promise: answers and descriptions of any content are read within their bounds, and mean what the RFCs say."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.rtsp.login import Login
from crow_daemon.rtsp.message import MAX_BODY_BYTES, MAX_HEADER_BYTES, Answer, next_answer
from crow_daemon.rtsp.sdp import SUPPORTED_CODECS, described_video
from crow_shared.errors import CrowError, Kind

SPS, PPS = bytes.fromhex("67 42c01e d9 03c5 68 40"), bytes.fromhex("68 cb 8c b2")
VIDEO = (
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\na=fmtp:96 {parameters}\r\na=framerate:12.5\r\n"
    "a=control:trackID=1\r\n"
)
WORDS = st.sampled_from(
    [
        "m=video 0 RTP/AVP 96 97",
        "m=audio 0 RTP/AVP 0",
        "a=rtpmap:96 H264/90000",
        "a=rtpmap:97 H265/x",
        "a=fmtp:96 sprop-parameter-sets=Z0LAHg==,aM4=;packetization-mode=1",
        "a=fmtp:96 sprop-parameter-sets=%%%;packetization-mode=99999999999",
        "a=control:*",
        "a=framerate:1e9",
        "m=video",
        "=",
        "a=fmtp:96",
    ]
)


def encoded(unit: bytes) -> str:
    return base64.b64encode(unit).decode().rstrip("=")


@given(st.binary(max_size=200), st.integers(0, 5))
@settings(max_examples=200)
def test_an_answer_is_read_only_when_it_is_there_as_a_whole(body: bytes, cut: int) -> None:
    answer = b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\nX-A: b\r\n\r\n%s" % (len(body), body)
    found = next_answer(b"junk" + answer + b"$more", 4, 4 + len(answer))
    assert found is not None
    assert (found[0].status, found[0].first("x-a"), found[1]) == (200, "b", 4 + len(answer))
    for end in range(len(answer) - cut, len(answer)):
        assert next_answer(answer, 0, end) is None


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda data: b"RTSP/1.0 200 OK\r\n" + data)))
@settings(max_examples=500)
def test_bytes_that_are_no_answer_give_nothing_but_a_crow_error(data: bytes) -> None:
    with suppress(CrowError):
        next_answer(data, 0, len(data))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"RTSP/1.0 200 OK\r\n" + b"x" * MAX_HEADER_BYTES, "answer_too_large"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), "answer_too_large"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n", "answer_too_large"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: \xb2\r\n\r\n", "not_rtsp"),
        (b"RTSP/1.0 2\xb20 OK\r\n\r\n", "not_rtsp"),
        (b"RTSP/1.0\r\n\r\n", "not_rtsp"),
        (b"GET / HTTP/1.1\r\n\r\n", "not_rtsp"),
    ],
)
def test_each_answer_that_is_none_has_its_failure(data: bytes, code: str) -> None:
    with pytest.raises(CrowError) as caught:
        next_answer(data, 0, len(data))
    assert caught.value.code == code


@given(st.lists(st.one_of(WORDS, st.text(max_size=40)), max_size=15))
@settings(max_examples=300)
def test_a_description_of_any_lines_is_read_or_refused(lines: list[str]) -> None:
    with suppress(CrowError):
        video = described_video("\r\n".join(lines))
        assert video.codec in SUPPORTED_CODECS
        assert 0 <= video.payload_type < 128
        assert video.fps is None or 0 < video.fps <= 1000


def test_a_description_tells_all_that_reading_needs() -> None:
    parameters = f"profile-level-id=42c01e; packetization-mode=1; sprop-parameter-sets={encoded(SPS)},{encoded(PPS)}"
    video = described_video("v=0\r\na=control:*\r\n" + VIDEO.format(codec="H264", parameters=parameters))
    assert (video.codec, video.payload_type, video.clock_hz, video.fps) == ("H264", 96, 90_000, 12.5)
    assert (video.control, video.aggregate_control) == ("trackID=1", None)
    assert (video.parameter_sets, video.packetization_mode, video.max_don_diff) == ((SPS, PPS), 1, 0)


def test_h265_tells_its_parameter_sets_one_by_one() -> None:
    parameters = f"sprop-vps={encoded(b'v')};sprop-sps={encoded(b's')};sprop-pps={encoded(b'p')},!;sprop-max-don-diff=3"
    video = described_video(VIDEO.format(codec="h265", parameters=parameters))
    assert (video.codec, video.parameter_sets, video.max_don_diff) == ("H265", (b"v", b"s", b"p"), 3)


def test_the_first_video_that_we_can_decode_is_taken() -> None:
    sdp = "m=video 0 RTP/AVP 26\r\na=control:jpeg\r\nm=video 0 RTP/AVP 99 96\r\na=rtpmap:99 VP8/90000\r\n"
    video = described_video(sdp + "a=rtpmap:96 H264/90000\r\na=control:good\r\n")
    assert (video.payload_type, video.control) == (96, "good")


def test_a_wrong_password_is_given_once_even_to_a_camera_that_changes_its_nonce() -> None:
    login = Login(Credentials("a", Secret("b")), "cam:554")
    assert login.header("DESCRIBE", "u") is None
    assert not login.admits(unauthorized("one"))
    assert login.header("DESCRIBE", "u") is not None
    with pytest.raises(CrowError) as refused:
        login.admits(unauthorized("two"))
    assert (refused.value.kind, refused.value.code) == (Kind.UNAUTHENTICATED, "auth_failed")


def test_a_login_that_is_forbidden_is_a_refused_one_and_what_is_forbidden_to_everybody_is_not() -> None:
    login = Login(Credentials("a", Secret("b")), "cam:554")
    assert login.admits(Answer(403, (), ""))
    assert not login.admits(unauthorized("one"))
    with pytest.raises(CrowError) as refused:
        login.admits(Answer(403, (), ""))
    assert refused.value.code == "auth_failed"


def test_a_login_that_was_let_in_before_is_renewed_with_each_new_nonce_and_counts_its_uses() -> None:
    login = Login(Credentials("a", Secret("b")), "cam:554")
    assert not login.admits(unauthorized("one"))
    assert "nc=00000001" in (login.header("DESCRIBE", "u") or "")
    assert login.admits(Answer(200, (), ""))
    assert "nc=00000002" in (login.header("SETUP", "u") or "")
    assert login.admits(Answer(404, (), ""))
    assert not login.admits(unauthorized("two"))
    assert 'nonce="two"' in (login.header("PLAY", "u") or "")
    with pytest.raises(CrowError, match="does not accept"):
        login.admits(unauthorized("three"))


def test_a_stale_nonce_is_no_wrong_password() -> None:
    login = Login(Credentials("a", Secret("b")), "cam:554")
    assert not login.admits(unauthorized("one"))
    assert login.header("DESCRIBE", "u") is not None
    assert not login.admits(unauthorized("two", ", stale=TRUE"))


def unauthorized(nonce: str, more: str = "") -> Answer:
    challenge = f'Digest realm="r", nonce="{nonce}", qop="auth"{more}'
    return Answer(401, (("www-authenticate", challenge),), "")
