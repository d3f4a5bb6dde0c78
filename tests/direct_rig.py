"""What the tests of the direct reader share: sources against a real RTSP server, and what libav says of keyframes."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from camera_rig import LOGIN
from coded_keyframes import coded_stream

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframe_picture import DecoderOnDemand, KeyframePicture
from crow_daemon.direct.interleaved import Buffer, InterleavedStream
from crow_daemon.direct.keyframes import KeyframeAssembler
from crow_daemon.direct.reading import ReadingThread
from crow_daemon.direct.source import DirectSource
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock
from crow_shared.frame import Encoding
from crow_shared.h26x import nal_units
from crow_sim.rtsp.media import VIDEO_TYPE
from crow_sim.rtsp.packing import Packer, Packing, is_parameter_set, payloads_of

SSRC = 0x1234_5678
DECODERS = {"h264": "h264", "h265": "hevc"}


@contextmanager
def reading(url: str, login: Credentials | None = LOGIN) -> Iterator[DirectSource]:
    """A source that is not open yet, closed at the end, with a reading thread of its own."""
    source = DirectSource(
        CameraUrl.parse(url), login, DecoderOnDemand(), SystemClock(), CaptureClock(), readers=ReadingThread()
    )
    try:
        yield source
    finally:
        source.stop()
        source.close()


def pictures_of(source: DirectSource, count: int) -> list[KeyframePicture | None]:
    """The first pictures of an open source, None for damaged ones."""
    pictures = []
    for picture in source.pictures():
        pictures.append(picture)
        if len(pictures) == count:
            break
    return pictures


def keyframes_of(path: Path) -> list[np.ndarray]:
    """The luma of every keyframe of a file, decoded within its stream; height x width."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0) if frame.key_frame]


def decoded_alone(encoding: str, payload: bytes) -> np.ndarray:
    """The luma of a keyframe, by a decoder that has seen nothing else; height x width."""
    context = av.CodecContext.create(DECODERS[encoding], "r")
    context.thread_count, context.thread_type = 1, "NONE"
    (frame,) = [*context.decode(av.Packet(payload)), *context.decode(None)]
    return frame.to_ndarray(format="gray")


@dataclass(frozen=True)
class Wire:
    """What a camera sends once it plays, and the keyframes in it."""

    encoding: Encoding
    data: bytes
    parameter_sets: tuple[bytes, ...]
    keyframes: int

    def stream(self) -> tuple[KeyframeAssembler, InterleavedStream]:
        assembler = KeyframeAssembler(self.encoding, VIDEO_TYPE, self.parameter_sets)
        return assembler, InterleavedStream(assembler, VIDEO_TYPE, (0, 1), Buffer())


def wire(encoding: Encoding, packing: Packing, pictures: int = 6, params: str = "") -> Wire:
    """A small stream: every third picture a keyframe, a report before each picture, an answer in the midst."""
    units = coded_stream(encoding, 320, 180, params, pictures=pictures, keyframe_every=3)
    hevc = encoding is Encoding.H265
    sets = [unit for unit in nal_units(units[0][1]) if is_parameter_set(unit, is_hevc=hevc)]
    packer = Packer(packing, VIDEO_TYPE, SSRC)
    data, sequence = bytearray(), 65_500
    for number, (_, unit) in enumerate(units):
        timestamp = (0xFFFF_0000 + number * 3600) & 0xFFFF_FFFF
        data += interleaved(1, struct.pack(">BBHIQIII", 0x80, 200, 6, SSRC, 3_900_000_000 << 32, timestamp, 0, 0))
        payloads = payloads_of(nal_units(unit), packing, is_hevc=hevc)
        for index, payload in enumerate(payloads):
            packet = packer.packet(sequence, timestamp, payload, ends_picture=index == len(payloads) - 1)
            data += interleaved(0, packet)
            sequence = (sequence + 1) & 0xFFFF
        if number == pictures // 2:
            data += b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nContent-Length: 4\r\n\r\n$\0\0\1"
        data += interleaved(2, b"sound" * 9)
    told = sets if packing.parameter_sets != "stream" else []
    return Wire(encoding, bytes(data), tuple(told), sum(is_key for is_key, _ in units))


def interleaved(channel: int, packet: bytes) -> bytes:
    """RFC 2326 section 10.12."""
    return b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet


def fed(stream: InterleavedStream, data: bytes, cuts: Iterable[int] = ()) -> None:
    """Gives a stream these bytes, in pieces that end at the cuts."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    for begin, end in pairwise(edges):
        piece = data[begin:end]
        while piece:
            space = stream.space()
            part, piece = piece[: len(space)], piece[len(space) :]
            space[: len(part)] = part
            stream.walk(len(part))
