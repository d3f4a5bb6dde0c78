"""What libav gets of a stream that lost something: whole pictures, from the next keyframe on."""

import struct
from collections.abc import Iterable
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.relay.whole_pictures import MOST_HELD_BYTES, WholePictures
from crow_shared.frame import Encoding

FPS, GOP = 25, 10
H264 = {True: b"\x7c\x85", False: b"\x5c\x81"}  # FU-A of an IDR slice, of another one
H265 = {True: b"\x62\x01\x93", False: b"\x62\x01\x81"}
PAYLOADS = {Encoding.H264: H264, Encoding.H265: H265}


def rtp(sequence: int, timestamp: int, payload: bytes, *, marked: bool, source: int = 7) -> bytes:
    header = struct.pack(">BBHII", 0x80, 96 | marked << 7, sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, source)
    return header + payload + bytes(20)


def stream(
    pictures: int, *, encoding: Encoding = Encoding.H264, start: int = 65_530, source: int = 7, first: int = 0
) -> list[bytes]:
    """Pictures of three packets each, every tenth a keyframe; numbers and timestamps wrap."""
    packets = []
    for number in range(first, first + pictures):
        payload = PAYLOADS[encoding][number % GOP == 0]
        for part in range(3):
            timestamp = 4_294_960_000 + number * 90_000 // FPS
            packets.append(rtp(start + len(packets), timestamp, payload, marked=part == 2, source=source))
    return packets


def numbers(packets: Iterable[bytes]) -> list[int]:
    """The pictures that were passed on, each of which must be whole."""
    found = []
    for timestamp, parts in groupby(packets, key=lambda packet: int.from_bytes(packet[4:8], "big")):
        assert len(list(parts)) == 3, "a picture came in parts"
        found.append(round((timestamp - 4_294_960_000 & 0xFFFF_FFFF) * FPS / 90_000))
    return found


@given(st.sampled_from(Encoding).filter(lambda one: one is not Encoding.JPEG), st.lists(st.integers(1, 40)))
def test_a_whole_stream_is_passed_on_whole_however_it_is_cut(encoding: Encoding, cuts: list[int]) -> None:
    packets, whole, passed = stream(40, encoding=encoding), WholePictures(encoding), []
    given_out = list(packets)
    for cut in [*cuts, len(packets)]:
        passed += whole.take(packets[:cut])
        del packets[:cut]
    assert passed == given_out
    assert whole.damaged == 0


@given(st.sampled_from(list(PAYLOADS)), st.sets(st.integers(1, 119), max_size=6))
def test_after_a_loss_nothing_is_passed_on_before_the_next_whole_keyframe(encoding: Encoding, lost: set[int]) -> None:
    packets = stream(40, encoding=encoding)
    whole = WholePictures(encoding)
    passed = numbers(whole.take([packet for number, packet in enumerate(packets) if number not in lost]))
    torn = {number // 3 for number in lost}
    assert not set(passed) & torn
    assert not [number for number in passed if built_on_loss(number, torn, passed)]
    assert len(passed) >= 40 - 2 * GOP * len(torn)


def built_on_loss(number: int, torn: set[int], passed: list[int]) -> bool:
    """Whether a picture was torn before this one, and no keyframe passed on since."""
    before = [one for one in torn if one < number]
    return bool(before) and not any(max(before) < one <= number and one % GOP == 0 for one in passed)


def test_keyframes_only_are_passed_on_with_what_tells_their_end() -> None:
    whole = WholePictures(Encoding.H264, keyframes_only=True)
    passed = numbers(whole.take(stream(100)))
    assert passed[:50] == list(range(50)), "all of the first two seconds, by which libav knows the stream"
    assert passed[50:] == [50, 51, 60, 61, 70, 71, 80, 81, 90, 91]


def test_packets_that_come_twice_or_late_change_nothing() -> None:
    packets, whole = stream(4), WholePictures(Encoding.H264)
    passed = whole.take([*packets[:5], packets[4], packets[1], *packets[5:]])
    assert passed == packets
    assert whole.damaged == 0


def test_an_encoder_that_begins_anew_is_waited_for_until_its_keyframe() -> None:
    whole = WholePictures(Encoding.H264)
    whole.take(stream(5))
    again = stream(20, source=8, start=100, first=5)
    assert numbers(whole.take(again)) == list(range(10, 25))


def test_what_is_no_packet_is_a_hole() -> None:
    packets, whole = stream(20), WholePictures(Encoding.H264)
    passed = whole.take([*packets[:6], b"", *packets[6:]])
    assert numbers(passed) == [0, 1, *range(10, 20)]
    assert whole.damaged == 8


def test_a_picture_without_end_is_dropped_and_not_held() -> None:
    whole = WholePictures(Encoding.H264)
    packets = [rtp(number, 0, H264[True] + bytes(60_000), marked=False) for number in range(200)]
    whole.take(packets)
    assert sum(map(len, whole._held)) <= MOST_HELD_BYTES
    assert whole.take([rtp(200, 90_000, H264[False], marked=True)]) == []
    assert whole.damaged >= 1


def test_a_stream_that_has_no_keyframes_is_passed_on_again_after_a_minute() -> None:
    whole = WholePictures(Encoding.H264)
    packets = [rtp(n, n * 3600, H264[False], marked=True) for n in range(25 * 70)]
    passed = whole.take(packets[:10] + packets[11:])
    assert len(passed) == 10 + 25 * 70 - (11 + 60 * 25)


def test_headers_with_extensions_and_aggregated_units_are_looked_through() -> None:
    aggregate = b"\x78" + b"\x00\x02\x67\x42" + b"\x00\x02\x65\x88" + bytes(4)
    extended = struct.pack(">BBHII", 0x91, 96 | 0x80, 1, 0, 7) + bytes(4) + b"\xbe\xde\x00\x01" + bytes(4) + aggregate
    whole = WholePictures(Encoding.H264, keyframes_only=True)
    whole.take([rtp(0, 1, H264[False], marked=True)])
    whole._begins = False
    assert whole.take([extended]) == [extended]


@given(st.lists(st.binary(max_size=40)))
def test_hostile_packets_are_survived(packets: list[bytes]) -> None:
    for encoding in PAYLOADS:
        WholePictures(encoding, keyframes_only=True).take(packets)
        WholePictures(encoding).take([b"\x80\x60" + packet for packet in packets])
