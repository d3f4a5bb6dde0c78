"""Promise: however bytes are cut, they give the same; whatever they are, nothing but CrowError comes of them."""

import random
import struct
from contextlib import suppress
from functools import cache

import pytest
from direct_rig import SSRC, Wire, fed, interleaved, wire
from hypothesis import given, settings
from hypothesis import strategies as st

from crow_daemon.direct.interleaved import BUFFER_BYTES
from crow_daemon.direct.keyframes import Keyframe, KeyframeAssembler
from crow_daemon.direct.timeline import Timeline
from crow_daemon.rtsp.rtp import payload_of, receiver_report, sender_report
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding
from crow_shared.h26x import inspect_keyframe
from crow_sim.rtsp import Packing
from crow_sim.rtsp.media import VIDEO_TYPE
from crow_sim.rtsp.packing import Packer, h264_payloads

PACKINGS = (
    Packing(),
    Packing(aggregate=True, header_extension=True, csrcs=2, padding_bytes=9, marker=False, parameter_sets="stream"),
)


@cache
def wires() -> list[Wire]:
    return [
        wire(encoding, packing, params="qp=12") for encoding in (Encoding.H264, Encoding.H265) for packing in PACKINGS
    ]


@cache
def in_one_piece(number: int) -> list[Keyframe | None]:
    assembler, stream = wires()[number].stream()
    fed(stream, wires()[number].data)
    return assembler.take_finished()


@given(st.integers(0, 3), st.lists(st.integers(0, 60_000), max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_the_bytes_gives_the_same(number: int, cuts: list[int]) -> None:
    assembler, stream = wires()[number].stream()
    fed(stream, wires()[number].data, cuts)
    assert assembler.take_finished() == in_one_piece(number)
    assert len(in_one_piece(number)) == wires()[number].keyframes
    assert None not in in_one_piece(number)
    (answer,) = stream.take_answers()
    assert (answer.status, answer.body) == (200, "$\0\0\1")
    assert stream.report is not None
    assert stream.report.ssrc == SSRC


@pytest.mark.parametrize("number", range(4))
def test_bytes_that_come_one_by_one_give_the_same(number: int) -> None:
    assembler, stream = wires()[number].stream()
    fed(stream, wires()[number].data, range(len(wires()[number].data)))
    assert assembler.take_finished() == in_one_piece(number)


@given(st.integers(0, 3), st.randoms(use_true_random=False), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_mutated_bytes_give_keyframes_or_a_crow_error_in_bounded_memory(
    number: int, rng: random.Random, damages: int
) -> None:
    data = bytearray(wires()[number].data)
    for _ in range(damages):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice(b"$R\0\1\x80\xff")
            case 2:
                del data[at : at + rng.randrange(1, 50)]
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 200))
    assembler, stream = wires()[number].stream()
    with suppress(CrowError):
        fed(stream, bytes(data), [rng.randrange(len(data)) for _ in range(4)])
    for keyframe in assembler.take_finished():
        if keyframe is not None:
            coded = keyframe.coded
            assert inspect_keyframe(coded.encoding, coded.payload) == (coded.width, coded.height)
    assert len(stream._rest) <= BUFFER_BYTES
    assert sum(map(len, assembler._slices)) <= MAX_PICTURE_BYTES


@given(st.lists(st.binary(max_size=300), max_size=30))
@settings(max_examples=200, deadline=None)
def test_packets_of_any_bytes_give_nothing_but_a_crow_error(payloads: list[bytes]) -> None:
    for encoding in (Encoding.H264, Encoding.H265):
        packer = Packer(Packing(), VIDEO_TYPE, SSRC)
        packets = [
            packer.packet(n, n // 3, payload, ends_picture=len(payload) % 2 == 0) for n, payload in enumerate(payloads)
        ]
        _, stream = Wire(encoding, b"", (), 0).stream()
        with suppress(CrowError):
            fed(stream, b"".join(interleaved(len(packet) % 3, packet) for packet in packets))


@pytest.mark.parametrize("number", range(4))
def test_a_packet_that_is_missing_in_a_keyframe_or_before_it_costs_this_keyframe_alone(number: int) -> None:
    first, second = in_one_piece(number)
    assert second is not None
    data = wires()[number].data
    packets = [(begin, end) for begin, end in packet_bounds(data) if data[begin + 1] == 0]
    of_second = [
        n
        for n, (begin, _) in enumerate(packets)
        if int.from_bytes(data[begin + 8 : begin + 12], "big") == second.timestamp
    ]
    assert len(of_second) >= 3
    for missing in [of_second[0] - 1, *of_second]:
        begin, end = packets[missing]
        assembler, stream = wires()[number].stream()
        fed(stream, data[:begin] + data[end:])
        assert assembler.take_finished() == [first, None], missing


FAKES = st.sampled_from(
    [
        b"$",
        b"R",
        b"RTSP/1.",
        b"$\0\0\x10\x80\x60" + bytes(14),  # of another source
        b"$\0\xff\xff\x80\x61" + bytes(6) + SSRC.to_bytes(4, "big"),  # of another payload type
        b"$\0\0\2\x80\x60" + bytes(6) + SSRC.to_bytes(4, "big"),  # too short to be one
        b"$\1\0\4abcd",
    ]
)


@given(st.lists(st.one_of(FAKES, st.binary(max_size=30)), max_size=20), st.lists(st.integers(0, 60_000), max_size=30))
@settings(max_examples=300, deadline=None)
def test_garbage_that_looks_like_packets_costs_no_keyframe(garbage: list[bytes], cuts: list[int]) -> None:
    data = wires()[0].data
    begin, _ = packet_bounds(data)[12]  # the first keyframe has come, so the source is known
    spoilt = data[:begin] + b"\xff" + b"".join(garbage).rstrip(b"$R") + b"\xff" + data[begin:]
    assembler, stream = wires()[0].stream()
    fed(stream, spoilt, [*cuts, *range(begin, len(spoilt) - len(data) + begin)])
    assert assembler.take_finished() == in_one_piece(0)


def test_a_fragment_that_never_ends_makes_no_keyframe() -> None:
    data = bytearray(wires()[0].data)
    for begin, _ in packet_bounds(wires()[0].data):
        if data[begin + 1] == 0 and data[begin + 16] & 31 == 28:
            data[begin + 17] &= ~0x40
    assembler, stream = wires()[0].stream()
    fed(stream, bytes(data))
    assert assembler.take_finished() == [None, None]


@pytest.mark.parametrize("encoding", [Encoding.H264, Encoding.H265])
def test_a_camera_that_marks_every_packet_gives_whole_pictures(encoding: Encoding) -> None:
    sliced = wire(encoding, Packing(), params="slices=4:qp=12")
    assembler, stream = sliced.stream()
    data = bytearray(sliced.data)
    for begin, _ in packet_bounds(sliced.data):
        data[begin + 5] |= 0x80 if data[begin + 1] == 0 else 0
    fed(stream, bytes(data))
    expected, expecting = sliced.stream()
    fed(expecting, sliced.data)
    assert assembler.take_finished() == expected.take_finished()
    assert expected._marks_end
    assert not assembler._marks_end


def test_packets_of_another_kind_on_the_videos_channel_are_passed_over() -> None:
    data = wires()[0].data
    mixed = bytearray()
    for begin, end in packet_bounds(data):
        mixed += data[begin:end]
        if data[begin + 1] == 0 and not data[begin + 5] & 0x80:
            mixed += interleaved(0, Packer(Packing(), 97, 5).packet(begin & 0xFFFF, 9, b"\x41abc", ends_picture=True))
    assembler, stream = wires()[0].stream()
    fed(stream, bytes(mixed))
    assert assembler.take_finished() == in_one_piece(0)


def packet_bounds(data: bytes) -> list[tuple[int, int]]:
    """Where the interleaved packets begin and end."""
    found, at = [], 0
    while at < len(data):
        if data[at : at + 1] != b"$":
            at = data.index(b"$\0\0\1", at) + 4
            continue
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((at, end))
        at = end
    return found


@pytest.mark.parametrize("garbage", [bytes(2 << 20), b"RT" * (100 << 10)], ids=["much", "a little that takes long"])
def test_endless_garbage_ends_the_stream(garbage: bytes) -> None:
    _, stream = wires()[0].stream()
    with pytest.raises(CrowError) as caught:
        fed(stream, garbage)
    assert (caught.value.kind, caught.value.code) == (Kind.CORRUPT, "stream_garbled")


def test_a_keyframe_that_is_too_large_is_dropped_and_the_third_in_a_row_is_for_another_reader() -> None:
    first = next(iter(in_one_piece(0)))
    assert first is not None
    packer = Packer(Packing(), VIDEO_TYPE, SSRC)
    assembler = KeyframeAssembler(Encoding.H264, VIDEO_TYPE, wires()[0].parameter_sets)
    huge, sequence = h264_payloads(b"\x65" + bytes(range(1, 256)) * 9000), 0
    with pytest.raises(CrowError, match="larger than 2 MiB") as caught:
        for timestamp in range(3):
            for number, payload in enumerate(huge):
                last = number == len(huge) - 1
                assembler.take(memoryview(packer.packet(sequence, timestamp, payload, ends_picture=last)))
                sequence = sequence + 1 & 0xFFFF
                assert sum(map(len, assembler._slices[-2:])) <= assembler._slice_bytes <= MAX_PICTURE_BYTES + 1400
    assert caught.value.code == "direct_unsupported"
    assert assembler.take_finished() == [None, None]


def test_parameter_sets_are_replaced_by_number_and_their_number_is_bounded() -> None:
    assembler = KeyframeAssembler(Encoding.H265, VIDEO_TYPE, ())
    packer = Packer(Packing(), VIDEO_TYPE, SSRC)
    for n in range(400):
        vps = bytes([0x40, 1, n % 16 << 4, n % 256, 7])
        pps = bytes([0x44, 1, 0x40 | n % 64, n % 256, 9])
        for unit in (vps, pps):
            assembler.take(memoryview(packer.packet(n, n, unit, ends_picture=True)))
    assert len(assembler.parameter_sets()) <= 32


@pytest.mark.parametrize("payload", [b"\x19\0\0\0\3abc", b"\x1a\0\0\0\0\0", b"\x1d\x85\0\0x"])
def test_interleaved_packetization_is_for_another_reader(payload: bytes) -> None:
    assembler = KeyframeAssembler(Encoding.H264, VIDEO_TYPE, ())
    packet = Packer(Packing(), VIDEO_TYPE, SSRC).packet(1, 1, payload, ends_picture=True)
    with pytest.raises(CrowError, match="interleaved") as caught:
        assembler.take(memoryview(packet))
    assert caught.value.code == "direct_unsupported"


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda data: b"\x80\xc8" + data)))
def test_rtp_and_rtcp_of_any_bytes_are_read_within_their_bounds(packet: bytes) -> None:
    assert len(payload_of(memoryview(packet))) <= max(0, len(packet) - 12)
    sender_report(memoryview(packet))


@given(st.binary(max_size=24))
def test_a_sender_report_is_read_if_it_is_whole_and_tells_a_time(body: bytes) -> None:
    packet = b"\x80\xc8\0\6" + body
    report = sender_report(memoryview(packet))
    if len(packet) < 20 or not any(packet[8:16]):
        assert report is None
    else:
        assert report is not None
        assert (report.ssrc, report.timestamp) == struct.unpack_from(">4xI8xI", packet)


def test_a_sender_report_after_2036_and_one_without_a_clock_are_told_apart() -> None:
    def told(ntp: int) -> int | None:
        packet = b"\x80\xc8\0\6" + SSRC.to_bytes(4, "big") + ntp.to_bytes(8, "big") + bytes(12)
        report = sender_report(memoryview(packet))
        return None if report is None else report.clock_us

    assert told(2_208_988_800 << 32 | 1 << 31) == 500_000
    assert told(100 << 32) == ((1 << 32) + 100 - 2_208_988_800) * 1_000_000
    assert told(0) is None


def test_a_receiver_report_is_as_the_rfc_says() -> None:
    packet = receiver_report(7, SSRC, 1234)
    assert packet[:4] == b"\x81\xc9\0\7"
    assert packet[4:8] == b"\0\0\0\7"
    assert packet[8:12] == SSRC.to_bytes(4, "big")
    assert int.from_bytes(packet[16:20], "big") == 1234
    description = packet[32:]
    assert description[:2] == b"\x81\xca"
    assert len(description) == 4 + 4 * int.from_bytes(description[2:4], "big")
    assert description[8:14] == b"\1\4crow"


@given(st.lists(st.integers(-(1 << 30), 1 << 30), min_size=1, max_size=30), st.integers(0, (1 << 32) - 1))
def test_timestamps_lose_their_wraps(steps: list[int], first: int) -> None:
    timeline, ticks = Timeline(90_000), 0
    assert timeline.place_us(SSRC, first, 0) == 0
    for step in steps:
        ticks += step
        assert timeline.place_us(SSRC, (first + ticks) & 0xFFFF_FFFF, 0) == ticks * 1_000_000 // 90_000


def test_a_new_source_goes_on_where_the_last_one_was_by_our_clock() -> None:
    timeline = Timeline(90_000)
    timeline.place_us(1, 5000, 10_000_000)
    timeline.place_us(1, 95_000, 11_000_000)
    assert timeline.place_us(2, 77, 13_000_000) == 3_000_000
    assert timeline.us_of(1, 95_000) is None
    assert timeline.us_of(2, 77 - 90_000 & 0xFFFF_FFFF) == 2_000_000
