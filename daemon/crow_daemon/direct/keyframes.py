"""From RTP packets to the keyframes in them, as access units that decode alone. No I/O.

Invariants
1. A keyframe is given out only if no packet is missing between its first and its last one, nor directly before it:
   what is missing there may be its first slice or its parameter sets. It ends where the RTP timestamp changes, or with
   a marked packet, once one has been seen to be a keyframe's last: some cameras mark every packet.
2. Nothing but slices of keyframes and parameter sets is kept, at most `MAX_PICTURE_BYTES` of the former and
   `_MAX_PARAMETER_SETS` of the latter.
3. Parameter sets are those that the camera sent last: what its description told is replaced by what comes in band.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from crow_daemon.capture.source import Coded
from crow_daemon.direct.failures import unsupported
from crow_daemon.rtsp.failures import STREAM_UNDECODABLE
from crow_daemon.rtsp.payloads import PAYLOADS
from crow_daemon.rtsp.rtp import PLAIN, payload_of
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding
from crow_shared.h26x import (
    KEYFRAME_SLICES,
    MAX_PARAMETER_SET_BYTES,
    OTHER_SLICES,
    PARAMETER_SETS,
    START_CODE,
    annex_b,
    inspect_keyframe,
    parameter_set_number,
)

_MAX_PARAMETER_SETS = 32
_MAX_REJECTED = 3  # keyframes in a row that arrived whole and are none, or none for us
_MAX_ALIENS = 50  # packets of kinds that the codec has not, without a keyframe between them
_MAX_RECOVERY_POINTS = 3  # without a keyframe: the camera refreshes its picture bit by bit
_TOO_LARGE = f"its keyframes are larger than {MAX_PICTURE_BYTES >> 20} MiB"
_RECOVERY_POINT = 6  # type of an SEI message (H.264 and H.265, annex D)
_MAX_SEI_MESSAGES = 16
_RTP_HEADER = struct.Struct(">xBHII")
_CONTINUED_BYTES = 15  # of a fragment, up to its data
_MARKER = 0x80  # on the last packet of a picture
_FRAGMENT_START, _FRAGMENT_END = 0x80, 0x40


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A keyframe that decodes alone, and the RTP timestamp by which its source took it."""

    ssrc: int
    timestamp: int
    coded: Coded


class KeyframeAssembler:
    """Of one stream; takes the packets that `first_bytes` and `fragment_bytes` name, and all while it is `engaged`."""

    def __init__(self, encoding: Encoding, payload_type: int, parameter_sets: Iterable[bytes]) -> None:
        """`parameter_sets` are what the stream's description told of them."""
        self._encoding = encoding
        self._payloads = PAYLOADS[encoding]
        self._kinds = self._payloads.kinds
        self._payload_type = payload_type
        self._finished: list[Keyframe | None] = []
        self._keyframe_slices = KEYFRAME_SLICES[encoding]
        self._parameter_sets: dict[tuple[int, int], bytes] = {}
        self._found = False  # a keyframe, on this connection
        self._rejected = 0
        self._aliens = 0
        self._recovery_points = 0
        self._marks_end: bool | None = None  # whether marked packets are the last ones; None while that is not known
        self._first_bytes_later = self._payloads.first_bytes(with_sei=False)
        self.first_bytes = self._payloads.first_bytes(with_sei=True)
        self.fragment_at = self._payloads.header_bytes  # where in a payload the byte for `fragment_bytes` is
        self.fragment_bytes = self._payloads.fragment_bytes()
        self.ssrc: int | None = None
        self.next_sequence: int | None = None
        self.newest_timestamp = 0
        self.engaged = False
        self._timestamp = 0  # of the picture that is being put together, as is the rest
        self._broken = False  # a packet of it is missing, or makes no sense
        self._is_key = False
        self._is_mixed = False  # it has slices that need other pictures
        self._is_marked = False  # its last packet so far
        self._slices: list[bytes] = []  # pieces of an Annex B byte stream
        self._slice_bytes = 0
        self._open = False  # its last NAL unit is a fragment that goes on
        self._middle = b""  # how the payloads of the following fragments begin, while it does
        self._continued = struct.Struct(f">HHQ{self.fragment_at + 1}s")
        for unit in parameter_sets:
            self._keep(self._kinds[unit[0]], unit)

    def passed_over(self, packet: memoryview) -> None:
        """Packets were not given to `take`, up to this one."""
        kind, sequence, timestamp, _ = _RTP_HEADER.unpack_from(packet)
        if kind & 0x7F == self._payload_type:
            self.next_sequence, self.newest_timestamp = sequence + 1 & 0xFFFF, timestamp
        else:  # something else on the video's channel, with numbers of its own
            self.next_sequence = None

    def take(self, packet: memoryview) -> None:
        """The next packet. Raises CrowError: UNSUPPORTED "direct_unsupported", UNAVAILABLE "stream_undecodable"."""
        if self._middle and len(packet) > _CONTINUED_BYTES and self._goes_on(packet):
            return
        kind, sequence, timestamp, ssrc = _RTP_HEADER.unpack_from(packet)
        if kind & 0x7F != self._payload_type:
            return
        if ssrc != self.ssrc:
            self.ssrc, self.next_sequence = ssrc, None
            self._broken = True  # what was being put together: its end is not to come
        gap = self.next_sequence not in (None, sequence)
        self._broken = self._broken or gap
        if self.engaged and timestamp != self._timestamp:
            if self._is_key and self._is_marked and self._marks_end is None and not self._broken:
                self._marks_end = True
            self._finish()
        elif self._is_marked:
            self._marks_end = False
        if not self.engaged:
            self.engaged, self._timestamp, self._broken = True, timestamp, gap
        self.next_sequence, self.newest_timestamp = sequence + 1 & 0xFFFF, timestamp
        payload = payload_of(packet)
        if len(payload) > self._payloads.header_bytes:
            self._payload(payload)
        self._is_marked = bool(kind & _MARKER)
        if self._is_marked and (self._marks_end or not self._is_key):
            self._finish()

    def take_finished(self) -> list[Keyframe | None]:
        """The keyframes since the last call, in order; None for one that came damaged."""
        finished, self._finished = self._finished, []
        return finished

    def _goes_on(self, packet: memoryview) -> bool:
        """Whether it is the next fragment of the same slice, and neither its last nor in any way special: most are."""
        flags, sequence, source, fragment = self._continued.unpack_from(packet)
        if (
            fragment != self._middle
            or sequence != self.next_sequence
            or source != self._timestamp << 32 | (self.ssrc or 0)
            or flags != PLAIN << 8 | self._payload_type
        ):
            return False
        self.next_sequence = sequence + 1 & 0xFFFF
        self._append(packet[self._continued.size :])
        return True

    def parameter_sets(self) -> list[bytes]:
        """Those to put before a keyframe, in the order in which they refer to one another."""
        return [self._parameter_sets[key] for key in sorted(self._parameter_sets, key=lambda key: key[0])]

    def _payload(self, payload: memoryview) -> None:
        kind = self._kinds[payload[0]]
        if kind == self._payloads.fragment:
            self._fragment(payload)
        elif self._open:
            self._broken = True  # the end of a fragment is missing
        elif kind == self._payloads.aggregate:
            self._aggregate(payload)
        else:
            self._unit(kind, payload)

    def _fragment(self, payload: memoryview) -> None:
        """FU-A (RFC 6184 section 5.8) or FU (RFC 7798 section 4.4.3)."""
        header_bytes = self._payloads.header_bytes
        mark = payload[header_bytes]
        kind = mark & self._payloads.fragment_kind
        if kind not in self._keyframe_slices:
            self._is_mixed = self._is_mixed or kind in OTHER_SLICES[self._encoding]
            return
        starts = bool(mark & _FRAGMENT_START)
        self._is_key = True
        self._broken = self._broken or starts == self._open
        if starts:
            header = bytes((payload[0] & 0xE0 | kind,))
            if self._encoding is Encoding.H265:
                header = bytes((payload[0] & 0x81 | kind << 1, payload[1]))
            self._append(START_CODE + header)
        self._append(payload[header_bytes + 1 :])
        self._open = not mark & _FRAGMENT_END
        self._middle = bytes((*payload[:header_bytes], kind)) if self._open and not self._broken else b""

    def _aggregate(self, payload: memoryview) -> None:
        """STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2)."""
        at = self._payloads.header_bytes
        while at + 2 < len(payload):
            end = at + 2 + (payload[at] << 8 | payload[at + 1])
            if end > len(payload) or end - at - 2 <= self._payloads.header_bytes:
                self._broken = True
                return
            unit = payload[at + 2 : end]
            self._unit(self._kinds[unit[0]], unit)
            at = end

    def _unit(self, kind: int, unit: memoryview) -> None:
        """A whole NAL unit."""
        if self._encoding is Encoding.H265 and (unit[0] & 1 or unit[1] & 0xF8):
            return  # of another layer, which the picture decodes without
        if kind in self._keyframe_slices:
            self._is_key = True
            self._append(START_CODE)
            self._append(unit)
        elif kind in PARAMETER_SETS[self._encoding]:
            self._keep(kind, bytes(unit))
        elif kind in self._payloads.interleaved and not self._found:
            raise unsupported("its NAL units are interleaved")
        elif kind in self._payloads.alien or kind in self._payloads.interleaved:
            self._aliens += 1
            if self._aliens > _MAX_ALIENS:
                raise CrowError(
                    Kind.UNAVAILABLE, STREAM_UNDECODABLE, "the camera sends something else than it described"
                )
        elif kind in OTHER_SLICES[self._encoding]:
            self._is_mixed = True
        elif kind == self._payloads.sei and not self._found:
            self._look_for_recovery_point(bytes(unit[self._payloads.header_bytes :]))

    def _append(self, part: bytes | memoryview) -> None:
        if self._broken:
            return
        self._slices.append(bytes(part))
        self._slice_bytes += len(part)
        if self._slice_bytes > MAX_PICTURE_BYTES:
            self._slices.clear()
            self._broken, self._middle = True, b""
            self._reject(_TOO_LARGE)

    def _finish(self) -> None:
        """The picture is complete, or as complete as it will be."""
        if self._is_key:
            whole = not (self._broken or self._open)
            coded = self._inspected() if whole else None
            assert self.ssrc is not None
            self._finished.append(None if coded is None else Keyframe(self.ssrc, self._timestamp, coded))
        self.engaged = self._broken = self._is_key = self._is_mixed = self._is_marked = self._open = False
        self._slices, self._slice_bytes, self._middle = [], 0, b""

    def _inspected(self) -> Coded | None:
        if self._is_mixed:
            self._reject("parts of its keyframes need other pictures")
            return None
        access_unit = b"".join((annex_b(self.parameter_sets()), *self._slices))
        if len(access_unit) > MAX_PICTURE_BYTES:
            self._reject(_TOO_LARGE)
            return None
        try:
            width, height = inspect_keyframe(self._encoding, access_unit)
        except CrowError as error:
            if error.kind is Kind.UNSUPPORTED:
                raise unsupported(error.message) from None
            self._reject(error.message)
            return None
        self._found = True
        self._rejected = self._aliens = 0
        self.first_bytes = self._first_bytes_later
        return Coded(self._encoding, access_unit, width, height)

    def _reject(self, why: str) -> None:
        self._rejected += 1
        if self._rejected >= _MAX_REJECTED:
            raise unsupported(why)

    def _keep(self, kind: int, unit: bytes) -> None:
        """Takes a parameter set, in the place of the one of its number; a damaged one is passed over."""
        if len(unit) > MAX_PARAMETER_SET_BYTES:
            return
        try:
            key = kind, parameter_set_number(self._encoding, unit)
        except CrowError:
            return
        self._parameter_sets.pop(key, None)
        while len(self._parameter_sets) >= _MAX_PARAMETER_SETS:
            del self._parameter_sets[next(iter(self._parameter_sets))]
        self._parameter_sets[key] = unit

    def _look_for_recovery_point(self, messages: bytes) -> None:
        """sei_rbsp (H.264 section 7.3.2.3): numbers are sums of bytes, the last of which is not 255."""
        at = 0
        for _ in range(_MAX_SEI_MESSAGES):
            numbers = []
            for _ in range(2):  # the message's type and size
                number = 0
                while at < len(messages) and messages[at] == 255:
                    number, at = number + 255, at + 1
                if at >= len(messages):
                    return
                numbers.append(number + messages[at])
                at += 1
            if numbers[0] == _RECOVERY_POINT:
                self._recovery_points += 1
                if self._recovery_points >= _MAX_RECOVERY_POINTS:
                    raise unsupported("it has no keyframes, its picture is refreshed bit by bit")
                return
            at += numbers[1]
