"""The server that libav talks to: one client that knows the way, and nothing that a camera said."""

import socket
import threading

import pytest

from crow_daemon.relay.local_server import LocalServer, description
from crow_daemon.rtsp.sdp import VideoDescription, described_video
from crow_shared.errors import CrowError

VIDEO = VideoDescription(
    codec="H264",
    payload_type=97,
    clock_hz=90_000,
    control="rtsp://elsewhere/\r\nevil",
    aggregate_control="rtsp://elsewhere/",
    parameter_sets=(b"\x67\x42\x00\x1e", b"\x68\xce"),
    packetization_mode=1,
    max_don_diff=0,
    fps=12.5,
)


@pytest.mark.parametrize(
    "video",
    [
        VIDEO,
        VideoDescription("H265", 98, 90_000, None, None, (b"\x40\x01v", b"\x42\x01s", b"\x44\x01p"), 0, 2, None),
        VideoDescription("H265", 98, 90_000, None, None, (), 0, 0, None),
    ],
)
def test_the_description_tells_the_stream_and_nothing_of_the_camera(video: VideoDescription) -> None:
    said = described_video(description(video))
    assert (said.codec, said.payload_type, said.clock_hz) == (video.codec, video.payload_type, video.clock_hz)
    assert (said.parameter_sets, said.max_don_diff, said.fps) == (video.parameter_sets, video.max_don_diff, video.fps)
    assert "elsewhere" not in description(video)


def talk(server: LocalServer, url: str, requests: list[str], answers: list[str]) -> None:
    port = int(server.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as client:
        for number, request in enumerate(requests, 1):
            client.sendall(f"{request} {url} RTSP/1.0\r\nCSeq: {number}\r\n\r\n".encode())
            answers.append(client.recv(4096).decode())


def served(server: LocalServer, url: str, requests: list[str]) -> list[str]:
    answers: list[str] = []
    client = threading.Thread(target=talk, args=(server, url, requests, answers))
    client.start()
    try:
        server.serve_until_play(5)
    finally:
        server.close()
        client.join()
    return answers


def test_a_client_that_knows_the_way_is_served_until_it_plays() -> None:
    server = LocalServer(VIDEO)
    answers = served(server, server.url, ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
    assert [answer.split("\r\n")[:2] for answer in answers] == [
        ["RTSP/1.0 200 OK", f"CSeq: {number}"] for number in (1, 2, 3, 4)
    ]
    assert description(VIDEO) in answers[1]


@pytest.mark.parametrize("request_line", ["OPTIONS", "DESCRIBE", "GARBAGE"])
def test_a_stranger_on_the_same_machine_is_not_served(request_line: str) -> None:
    server = LocalServer(VIDEO)
    with pytest.raises(CrowError) as refused:
        served(server, "rtsp://127.0.0.1/", [request_line])
    assert refused.value.code == "open_failed"


def test_nobody_else_can_connect_once_somebody_has() -> None:
    server = LocalServer(VIDEO)
    port = int(server.url.split(":")[2].split("/")[0])
    served(server, server.url, ["PLAY"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
