"""Lets whole pictures through, out of a camera's RTP packets (RFC 3550). Pure: no clock, no I/O.

libav does not tell what it lost, and marks few of the pictures that suffer from it. Here a hole in the sequence numbers
is seen, and with it every picture that lacks something or is made from one that does.

Invariants
1. A picture, the packets of one timestamp, is passed on when its last packet has come (the marker, or the next
   picture's first packet), and only if no sequence number was missing from the one before it to its end.
2. After a hole nothing is passed on before the next whole keyframe. Only a stream that has none for
   `MOST_UNTIL_KEYFRAME_S` is passed on without (its pictures refresh in other ways).
3. What is held is bounded by `MAX_PICTURE_BYTES`; a larger picture is a damaged one.
4. With `keyframes_only`, a keyframe is passed on and the picture behind it, by whose beginning libav knows that the
   keyframe has ended; and everything of the first `_WHOLE_AT_FIRST_S`, by which libav gets to know the stream.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from crow_shared.frame import Encoding

MAX_PICTURE_BYTES: Final = 4 << 20
MOST_UNTIL_KEYFRAME_S: Final = 60
_CLOCK_HZ = 90_000
_WHOLE_AT_FIRST_S = 2
_HEADER = struct.Struct(">BBHII")
_VERSION, _MARKER = 2, 0x80
_LATE = 0x8000  # a sequence number that is so far ahead is one of the past

# Whether slices are a keyframe's, by NAL unit type: ITU-T H.264 table 7-1 and RFC 6184, ITU-T H.265 table 7-1 and RFC
# 7798. A picture of which no packet tells (unusual ways of packing) may be one.
_H264_SLICES = {**dict.fromkeys(range(1, 5), False), 5: True}
_H264_STAP_A, _H264_FRAGMENTS = 24, (28, 29)
_H265_SLICES = {**dict.fromkeys(range(10), False), **dict.fromkeys(range(16, 22), True)}
_H265_AP, _H265_FRAGMENT = 48, 49


class WholePictures:
    """Of one stream, used by one thread. `damaged` counts the pictures not passed on because something is missing."""

    def __init__(self, encoding: Encoding, *, keyframes_only: bool = False) -> None:
        """Before the first packet."""
        self._encoding = encoding
        self._keyframes_only = keyframes_only
        self.source: int | None = None  # SSRC; None before the first packet
        self.expected = 0  # sequence number
        self._timestamp = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_key: bool | None = None  # the picture under way, once that is known
        self._broken = False  # the picture under way
        self._holed = False  # before the next packet
        self._hole_at: int | None = None  # timestamp since which a keyframe is waited for
        self._behind_keyframe = False
        self._first_at: int | None = None  # timestamp
        self._begins = True
        self.damaged = 0

    def take(self, packets: Iterable[bytes]) -> list[bytes]:
        """The packets to pass on now that these have come; what is no packet is a hole."""
        passed: list[bytes] = []
        for packet in packets:
            if len(packet) <= _HEADER.size or packet[0] >> 6 != _VERSION:
                self._holed = True
                continue
            _, marked, sequence, timestamp, source = _HEADER.unpack_from(packet)
            if sequence != self.expected or source != self.source or self._holed:
                if not self._begins_anew(sequence, timestamp, source):
                    continue
            elif timestamp != self._timestamp:
                passed += self._finished()
            self.expected, self._timestamp = sequence + 1 & 0xFFFF, timestamp
            self._held.append(packet)
            self._held_bytes += len(packet)
            if self._held_bytes > MAX_PICTURE_BYTES:
                self._broken, self._held = True, [packet]
            if self._is_key is None:
                self._is_key = _holds_keyframe(self._encoding, packet)
            if marked & _MARKER:
                passed += self._finished()
        return passed

    def _begins_anew(self, sequence: int, timestamp: int, source: int) -> bool:
        """Not the packet that was expected; whether it is to be taken."""
        if self.source is None:  # the first one
            self.source, self._timestamp = source, timestamp
            return True
        if source == self.source and (sequence - self.expected) & 0xFFFF >= _LATE:
            return False  # a double, or one that comes too late
        if self._held and timestamp != self._timestamp:
            self._broken = True
            self._finished()
        self.source, self._holed, self._broken = source, False, True
        return True

    def _finished(self) -> list[bytes]:
        """The picture under way has ended: its packets, if they are to be passed on."""
        packets, is_key, broken = self._held, self._is_key is not False, self._broken
        self._held, self._held_bytes, self._is_key, self._broken = [], 0, None, False
        if not packets:
            return []
        if broken:
            self.damaged += 1
            self._hole_at = self._timestamp if self._hole_at is None else self._hole_at
            return []
        if self._hole_at is not None:
            waited = self._timestamp - self._hole_at & 0xFFFF_FFFF
            if not is_key and waited < MOST_UNTIL_KEYFRAME_S * _CLOCK_HZ:
                self.damaged += not self._keyframes_only
                return []
            self._hole_at = None
        wanted = not self._keyframes_only or self._at_first() or is_key or self._behind_keyframe
        self._behind_keyframe = is_key
        return packets if wanted else []

    def _at_first(self) -> bool:
        if self._first_at is None:
            self._first_at = self._timestamp
        lasted = self._timestamp - self._first_at & 0xFFFF_FFFF
        self._begins = self._begins and lasted < _WHOLE_AT_FIRST_S * _CLOCK_HZ
        return self._begins


def _holds_keyframe(encoding: Encoding, packet: bytes) -> bool | None:
    """Whether a packet is of a picture that decoding may begin with; None when it does not tell."""
    begin = _HEADER.size + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:  # a header extension
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4], "big")
    payload = packet[begin : begin + 3]
    if len(payload) < 3:
        return None
    if encoding is Encoding.H264:
        kind = payload[0] & 31
        if kind == _H264_STAP_A:
            return _first_told(_H264_SLICES, (unit & 31 for unit in _aggregated(packet, begin + 1)))
        return _H264_SLICES.get(payload[1] & 31 if kind in _H264_FRAGMENTS else kind)
    kind = payload[0] >> 1 & 63
    if kind == _H265_AP:
        return _first_told(_H265_SLICES, (unit >> 1 & 63 for unit in _aggregated(packet, begin + 2)))
    return _H265_SLICES.get(payload[2] & 63 if kind == _H265_FRAGMENT else kind)


def _first_told(slices: Mapping[int, bool], kinds: Iterable[int]) -> bool | None:
    return next((slices[kind] for kind in kinds if kind in slices), None)


def _aggregated(packet: bytes, begin: int) -> Iterator[int]:
    """The first bytes of the NAL units in an aggregation packet, each behind its length in two bytes."""
    while begin + 2 < len(packet):
        yield packet[begin + 2]
        begin += 2 + int.from_bytes(packet[begin : begin + 2], "big")
