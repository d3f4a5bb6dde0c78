"""Promise: a camera that floods ends with a word about it, and keeps no other waiting that is read beside it."""

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from camera_rig import eventually
from coded_keyframes import coded_stream
from direct_rig import SSRC, interleaved, pictures_of
from scripted_camera import camera

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframe_picture import DecoderOnDemand
from crow_daemon.direct.allowance import Allowance
from crow_daemon.direct.interleaved import BUFFER_BYTES
from crow_daemon.direct.reading import ReadingThread
from crow_daemon.direct.source import DirectSource
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding
from crow_shared.h26x import nal_units
from crow_sim.rtsp import RtspServer, ThreadedRtspServer

SDP = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"


def packets(count: int, payload: bytes) -> bytes:
    """So many pictures of one packet."""
    header = (struct.pack(">BBHII", 0x80, 0xE0, number & 0xFFFF, number, SSRC) for number in range(count))
    return b"".join(interleaved(0, head + payload) for head in header)


def aggregated(*units: bytes) -> bytes:
    return b"\x18" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def tiny_keyframes() -> bytes:
    ((_, unit),) = coded_stream(Encoding.H264, 64, 64, "", pictures=1, keyframe_every=1)
    return packets(65_536, aggregated(*(bytes(part) for part in nal_units(unit) if part[0] & 31 in (5, 7, 8))))


def tiny_units() -> bytes:
    return packets(2000, aggregated(*[b"\x41a"] * 300))


def flooding(data: bytes) -> Callable[[socket.socket, str, int], None]:
    """Answers as a camera does, and sends that as fast as it is taken once it plays."""

    def respond(connection: socket.socket, request: str, number: int) -> None:
        method = request.partition(" ")[0]
        body = SDP if method == "DESCRIBE" else ""
        connection.sendall(
            f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        while method == "PLAY":
            connection.sendall(data)

    return respond


def source_of(url: str, readers: ReadingThread) -> DirectSource:
    return DirectSource(CameraUrl.parse(url), None, DecoderOnDemand(), SystemClock(), CaptureClock(), readers=readers)


@pytest.mark.parametrize(
    ("flood", "words"),
    [(tiny_keyframes, "more than 120 keyframes a second"), (tiny_units, "more than 10% of a processor")],
)
def test_a_stream_that_no_camera_sends_ends_and_its_neighbour_goes_on(
    flood: Callable[[], bytes], words: str, shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crow_daemon.direct.reader._PROCESSOR_S", 0.3)
    readers = ReadingThread()
    with ThreadedRtspServer(RtspServer({"cam": shop["h264"]})) as server, camera(flooding(flood())) as (url, _):
        good, bad = source_of(server.url("cam"), readers), source_of(url.text, readers)
        failures: list[CrowError] = []

        def read_flood() -> None:
            try:
                bad.open()
                for _ in bad.pictures():
                    pass
            except CrowError as error:
                failures.append(error)

        thread = threading.Thread(target=read_flood)
        try:
            good.open()
            thread.start()
            eventually(lambda: failures, "the flood ends")
            assert len(pictures_of(good, 5)) == 5
        finally:
            for source in (bad, good):
                source.stop()
            thread.join()
            for source in (bad, good):
                source.close()
    assert (failures[0].kind, failures[0].code) == (Kind.TOO_LARGE, "stream_flood")
    assert words in failures[0].message


class EndlessSocket:
    """Always has more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.reads = 0

    def recv_into(self, space: memoryview) -> int:
        self.reads += 1
        space[:] = self._data[: len(space)]
        return len(space)


def test_one_look_takes_in_no_more_than_a_moment_worth_of_work(shop: dict[str, Path]) -> None:
    readers = ReadingThread()
    with ThreadedRtspServer(RtspServer({"cam": shop["h264"]})) as server:
        source = source_of(server.url("cam"), readers)
        source.open()
        pictures_of(source, 1)
        reader = source._reader
        assert reader is not None
        readers.remove(reader)  # from here on it is looked at here
        endless = EndlessSocket(tiny_units()[:BUFFER_BYTES].ljust(BUFFER_BYTES, b"$"))
        reader._sock = endless  # type: ignore[assignment]
        reader._read(0.0, until_s=0.0)
        assert endless.reads == 1
        source.stop()
        source.close()


def test_an_allowance_is_so_much_a_second_and_what_was_saved() -> None:
    allowance = Allowance(per_s=2, most=5, now_s=100)
    assert allowance.covers(5, 100)
    assert allowance.covers(2, 101)
    assert not allowance.covers(1, 101)
    assert allowance.covers(5, 200)
    assert not allowance.covers(1, 200)
