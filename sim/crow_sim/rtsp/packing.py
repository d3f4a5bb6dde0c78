"""How a camera packs its stream: RFC 3550 packets of RFC 6184 (H.264) or RFC 7798 (H.265) payloads."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_PAYLOAD_BYTES = 1400

_STAP_A, _FU_A = 24, 28  # RFC 6184 section 5.2
_AP, _FU = 48, 49  # RFC 7798 section 4.4
_FU_START, _FU_END = 0x80, 0x40
_H264_PARAMETERS = range(7, 9)  # SPS, PPS
_H265_PARAMETERS = range(32, 35)  # VPS, SPS, PPS
_VERSION_2, _PADDING, _EXTENSION, _MARKER = 0x80, 0x20, 0x10, 0x80
_RTP_HEADER = struct.Struct(">BBHII")
# RFC 8285 section 4.2: the profile 0xBEDE, two words, an element of id 1 with four bytes of data, padding.
_HEADER_EXTENSION = struct.pack(">HHB4s3x", 0xBEDE, 2, 0x13, b"crow")


@dataclass(frozen=True, slots=True)
class Packing:
    """What cameras do differently and a reader has to understand; all of it is within the standards."""

    aggregate: bool = False  # NAL units that fit share a packet: STAP-A, AP
    header_extension: bool = False  # every RTP header carries one
    csrcs: int = 0  # contributing sources in every RTP header, at most 15
    padding_bytes: int = 0  # at the end of every RTP packet, at most 255
    marker: bool = True  # on the last packet of a picture; without it, the next timestamp ends the picture
    parameter_sets: Literal["both", "stream", "description"] = "both"  # where they are told
    audio: bool = False  # a track of silence, described before the video


def nal_type(unit: bytes, *, is_hevc: bool) -> int:
    """The kind of a NAL unit."""
    return (unit[0] >> 1) & 63 if is_hevc else unit[0] & 31


def is_parameter_set(unit: bytes, *, is_hevc: bool) -> bool:
    """Whether a NAL unit is one that the session description can tell, too."""
    return nal_type(unit, is_hevc=is_hevc) in (_H265_PARAMETERS if is_hevc else _H264_PARAMETERS)


def payloads_of(units: Sequence[bytes], packing: Packing, *, is_hevc: bool) -> tuple[bytes, ...]:
    """The NAL units of one picture as RTP payloads, in order."""
    if packing.parameter_sets == "description":
        units = [unit for unit in units if not is_parameter_set(unit, is_hevc=is_hevc)]
    fragment = h265_payloads if is_hevc else h264_payloads
    groups = _groups(units) if packing.aggregate else [[unit] for unit in units]
    payloads: list[bytes] = []
    for group in groups:
        payloads += fragment(group[0]) if len(group) == 1 else [_aggregated(group, is_hevc=is_hevc)]
    return tuple(payloads)


def h264_payloads(unit: bytes) -> list[bytes]:
    """One NAL unit as a single RTP payload, or as FU-A fragments (RFC 6184 section 5.8)."""
    if len(unit) <= MAX_PAYLOAD_BYTES:
        return [unit]
    indicator = bytes([(unit[0] & 0xE0) | _FU_A])
    return [indicator + bytes([mark | (unit[0] & 31)]) + chunk for mark, chunk in _fragments(unit[1:], 2)]


def h265_payloads(unit: bytes) -> list[bytes]:
    """One NAL unit as a single RTP payload, or as fragmentation units (RFC 7798 section 4.4.3)."""
    if len(unit) <= MAX_PAYLOAD_BYTES:
        return [unit]
    header = bytes([(unit[0] & 0x81) | (_FU << 1), unit[1]])
    return [header + bytes([mark | ((unit[0] >> 1) & 63)]) + chunk for mark, chunk in _fragments(unit[2:], 3)]


class Packer:
    """Puts RTP headers before the payloads of one source (RFC 3550 section 5.1)."""

    def __init__(self, packing: Packing, payload_type: int, ssrc: int) -> None:
        self._type = payload_type
        self._ssrc = ssrc
        self._marker = _MARKER if packing.marker else 0
        flags = _PADDING * bool(packing.padding_bytes) | _EXTENSION * packing.header_extension
        self._first = _VERSION_2 | flags | packing.csrcs
        self._behind_header = struct.pack(f">{packing.csrcs}I", *range(1, packing.csrcs + 1))
        self._behind_header += _HEADER_EXTENSION if packing.header_extension else b""
        # The last byte of the padding counts it, itself included.
        self._padding = bytes(packing.padding_bytes - 1) + bytes([packing.padding_bytes]) if flags & _PADDING else b""

    def packet(self, sequence: int, timestamp: int, payload: bytes, *, ends_picture: bool) -> bytes:
        """One RTP packet."""
        kind = self._type | (self._marker if ends_picture else 0)
        header = _RTP_HEADER.pack(self._first, kind, sequence, timestamp, self._ssrc)
        return b"".join((header, self._behind_header, payload, self._padding))


def _groups(units: Sequence[bytes]) -> list[list[bytes]]:
    """Neighbours that fit one aggregation packet together; each unit takes two bytes for its size there."""
    groups: list[list[bytes]] = []
    room = 0
    for unit in units:
        if len(unit) + 2 > room:
            groups.append([])
            room = MAX_PAYLOAD_BYTES - 2
        groups[-1].append(unit)
        room -= len(unit) + 2
    return groups


def _aggregated(units: Sequence[bytes], *, is_hevc: bool) -> bytes:
    """STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2)."""
    if is_hevc:
        layer_and_temporal = min(unit[1] for unit in units)
        header = bytes([min(unit[0] & 0x81 for unit in units) | (_AP << 1), layer_and_temporal])
    else:
        header = bytes([max(unit[0] & 0x60 for unit in units) | _STAP_A])
    return header + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _fragments(body: bytes, header_bytes: int) -> list[tuple[int, bytes]]:
    """The body in chunks that fit beside a header, each with its start or end mark."""
    step = MAX_PAYLOAD_BYTES - header_bytes
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    last = len(chunks) - 1
    return [((_FU_START if n == 0 else 0) | (_FU_END if n == last else 0), chunk) for n, chunk in enumerate(chunks)]
