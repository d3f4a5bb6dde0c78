"""Lets whole pictures through, out of a camera's RTP packets (RFC 3550). Pure: no clock, no I/O.

libav does not tell what it lost, and marks few of the pictures that suffer from it. Here a hole in the sequence numbers
is seen, and with it every picture that lacks something or is made from one that does.

Invariants
1. A picture, the packets of one timestamp, is passed on when its last packet has come (the marker, or the next
   picture's first packet), and only if no sequence number was missing from the one before it to its end.
2. After a hole nothing is passed on before the next whole keyframe. Only a stream that has none for
   `MOST_UNTIL_KEYFRAME_S` is passed on without (its pictures refresh in other ways).
3. What is held is bounded by `MOST_HELD_BYTES`; a larger picture is a damaged one.
4. With `keyframes_only`, a keyframe is passed on and the picture behind it, by whose beginning libav knows that the
   keyframe has ended; and everything of the first `_WHOLE_AT_FIRST_S`, by which libav gets to know the stream.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from crow_daemon.rtsp.payloads import PAYLOADS
from crow_daemon.rtsp.rtp import payload_begin
from crow_shared.frame import Encoding
from crow_shared.h26x import KEYFRAME_SLICES, OTHER_SLICES

MOST_HELD_BYTES: Final = 4 << 20  # more than a frame may have: these pictures are scaled down
MOST_UNTIL_KEYFRAME_S: Final = 60
_CLOCK_HZ = 90_000
_WHOLE_AT_FIRST_S = 2
_HEADER = struct.Struct(">BBHII")
_VERSION, _MARKER = 2, 0x80
_LATE = 0x8000  # a sequence number that is so far ahead is one of the past


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
            if self._held_bytes > MOST_HELD_BYTES:
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
    layout, begin = PAYLOADS[encoding], payload_begin(packet, 0, len(packet))
    header = packet[begin : begin + layout.header_bytes + 1]
    if len(header) <= layout.header_bytes:
        return None
    kinds = [layout.kinds[header[0]]]
    if kinds == [layout.aggregate]:
        kinds = [layout.kinds[first] for first in _aggregated(packet, begin + layout.header_bytes)]
    elif kinds == [layout.fragment]:
        kinds = [header[-1] & layout.fragment_kind]
    slices = (kind for kind in kinds if kind in KEYFRAME_SLICES[encoding] | OTHER_SLICES[encoding])
    first_slice = next(slices, None)  # all of a picture are alike
    return None if first_slice is None else first_slice in KEYFRAME_SLICES[encoding]


def _aggregated(packet: bytes, begin: int) -> Iterator[int]:
    """The first bytes of the NAL units in an aggregation packet, each behind its length in two bytes."""
    while begin + 2 < len(packet):
        yield packet[begin + 2]
        begin += 2 + int.from_bytes(packet[begin : begin + 2], "big")
