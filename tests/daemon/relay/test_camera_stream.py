"""What is taken for a camera's packets: each once, in order, from the camera alone, however the bytes come."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.relay.camera_stream import TcpStream, UdpStream
from crow_daemon.rtsp.message import Answer
from crow_shared.errors import CrowError


class Connected:
    """As much of a connection as a stream that plays already asks for."""

    addresses = ("127.0.0.1", "127.0.0.1")
    url: Any = None

    def admits(self, answer: Answer) -> bool:
        return True


def interleaved(channel: int, packet: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet


def rtp(sequence: int) -> bytes:
    return b"\x80\x60" + (sequence & 0xFFFF).to_bytes(2, "big") + bytes(16)


def taken(pieces: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    stream = TcpStream(Connected())  # type: ignore[arg-type]
    packets: tuple[list[bytes], list[bytes]] = ([], [])
    for piece in pieces:
        stream._received += piece
        batch = stream._taken()
        packets[0].extend(batch.rtp)
        packets[1].extend(batch.rtcp)
    return packets


ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nContent-Length: 3\r\n\r\n$\x00\x00"
packets = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40).map(lambda packet: interleaved(0, packet)),
        st.binary(min_size=1, max_size=40).map(lambda packet: interleaved(1, packet)),
        st.binary(max_size=40).map(lambda packet: interleaved(5, packet)),  # sound
        st.just(ANSWER),
    ),
    max_size=20,
)


@given(packets, st.lists(st.integers(0, 60), max_size=40))
def test_a_stream_gives_the_same_packets_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    assert taken([*pieces, data]) == (
        [part[4:] for part in parts if part[:2] == b"$\x00"],
        [part[4:] for part in parts if part[:2] == b"$\x01"],
    )


def test_garbage_between_packets_is_passed_over_and_told_as_a_hole() -> None:
    data = interleaved(0, rtp(1)) + b"\x00$garb$age\xff" + interleaved(0, rtp(2)) + interleaved(1, b"report")
    assert taken([data]) == ([rtp(1), b"", rtp(2)], [b"report"])


def test_endless_garbage_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crow_daemon.relay.camera_stream._MAX_GARBAGE_BYTES", 10_000)
    stream = TcpStream(Connected())  # type: ignore[arg-type]
    stream._session._connection = type("", (), {"url": type("", (), {"authority": "camera:554"})})  # type: ignore[assignment]
    with pytest.raises(CrowError) as ended:
        for _ in range(100):
            stream._received += b"no packet at all" * 64
            stream._taken()
    assert ended.value.code == "not_rtsp"


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_hostile_bytes_cost_a_typed_failure_at_most(pieces: list[bytes]) -> None:
    with contextlib.suppress(CrowError):
        taken(pieces)


@pytest.fixture
def udp() -> Iterator[UdpStream]:
    stream = UdpStream(Connected())  # type: ignore[arg-type]
    yield stream
    stream._rtp.close()
    stream._rtcp.close()


def send(udp: UdpStream, *sequences: int, host: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
        camera.bind((host, 0))
        for sequence in sequences:
            camera.sendto(rtp(sequence), udp._rtp.getsockname())


def test_datagrams_that_overtook_each_other_are_put_in_order(udp: UdpStream) -> None:
    send(udp, 65_533, 65_535, 65_534, 1, 0, 2)
    assert udp._taken().rtp == [rtp(number) for number in (65_533, 65_534, 65_535, 65_536, 65_537, 65_538)]


def test_one_that_is_missing_is_waited_for_until_the_next_look(udp: UdpStream) -> None:
    send(udp, 1, 3, 4)
    assert udp._taken().rtp == [rtp(1)]
    send(udp, 2)
    assert udp._taken().rtp == [rtp(2), rtp(3), rtp(4)]
    send(udp, 6, 7)
    assert udp._taken().rtp == []
    assert udp._taken().rtp == [rtp(6), rtp(7)]
    send(udp, 5, 8)
    assert udp._taken().rtp == [rtp(8)], "what comes too late is not taken"


def test_a_flood_of_datagrams_or_bytes_is_taken_piece_by_piece(udp: UdpStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crow_daemon.relay.camera_stream._LOOK_BYTES", 8 << 10)
    send(udp, *range(20))
    assert [len(udp._taken().rtp) for _ in range(4)] == [8, 8, 4, 0]
    ours, cameras = socket.socketpair()
    with ours, cameras:
        ours.setblocking(False)
        udp._socket = ours
        cameras.sendall(bytes(40 << 10))
        monkeypatch.setattr("crow_daemon.relay.camera_stream._RECEIVE_BYTES", 1 << 10)
        udp._receive()
        assert len(udp._received) == 8 << 10


def test_datagrams_from_other_ports_than_the_camera_told_are_not_taken(udp: UdpStream) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
        camera.bind(("127.0.0.1", 0))
        port = camera.getsockname()[1]
        udp._session.transport = f"RTP/AVP;unicast;server_port={port}-{port + 1}"
        udp._connect()
        send(udp, 1)
        camera.sendto(rtp(2), udp._rtp.getsockname())
        assert udp._taken().rtp == [rtp(2)]


def test_datagrams_from_elsewhere_are_not_the_cameras(udp: UdpStream) -> None:
    send(udp, 1)
    send(udp, 2, host="127.0.0.2")
    send(udp, 2)
    assert udp._taken().rtp == [rtp(1), rtp(2)]
