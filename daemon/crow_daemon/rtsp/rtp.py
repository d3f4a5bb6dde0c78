"""RTP packets and the reports beside them (RFC 3550). No I/O."""

import struct
from dataclasses import dataclass

HEADER_BYTES = 12
PLAIN = 0x80  # the first byte of a packet of version 2 with no padding, no extension and no contributing sources
_VERSION, _VERSION_2 = 0xC0, 0x80
_PADDING, _EXTENSION, _SOURCES = 0x20, 0x10, 0x0F
_SENDER_REPORT, _RECEIVER_REPORT, _DESCRIPTION, _CNAME = 200, 201, 202, 1
_NTP_EPOCH_S = 2_208_988_800  # 1970 seen from 1900
_NTP_ERA_S = 1 << 32  # the seconds wrap in 2036 (RFC 5905 section 6)
_REPORT = struct.Struct(">BBHIQI")
_OWN_REPORT = struct.Struct(">BBHIIIIIII")
_MAX_REPORTS = 16  # in one compound packet


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a camera's clock showed, in microseconds since the Unix epoch, at an RTP timestamp of a source."""

    ssrc: int
    clock_us: int
    timestamp: int


def payload_begin(packet: bytes | bytearray | memoryview, begin: int, end: int) -> int:
    """Where the payload of the RTP packet from `begin` to `end` begins; behind `end` for what is no RTP packet.

    Contributing sources and header extensions (RFC 8285) are passed over.
    """
    if end - begin < HEADER_BYTES or packet[begin] & _VERSION != _VERSION_2:
        return end + 1
    flags = packet[begin]
    at = begin + HEADER_BYTES + 4 * (flags & _SOURCES)
    if flags & _EXTENSION:
        if at + 4 > end:
            return end + 1
        at += 4 + 4 * (packet[at + 2] << 8 | packet[at + 3])
    return at


def payload_of(packet: memoryview) -> memoryview:
    """The payload of an RTP packet, without its padding; empty when there is none, or no RTP packet."""
    begin = payload_begin(packet, 0, len(packet))
    if begin > len(packet):
        return packet[:0]
    end = len(packet) - (packet[-1] if packet[0] & _PADDING else 0)
    return packet[begin : max(begin, end)]


def sender_report(packet: memoryview) -> SenderReport | None:
    """The last sender report in an RTCP packet that tells a time; None where there is none."""
    found, at = None, 0
    for _ in range(_MAX_REPORTS):
        if at + 4 > len(packet) or packet[at] & _VERSION != _VERSION_2:
            break
        if packet[at + 1] == _SENDER_REPORT and at + _REPORT.size <= len(packet):
            _, _, _, ssrc, ntp, timestamp = _REPORT.unpack_from(packet, at)
            if ntp:  # zero: the camera has no clock
                found = SenderReport(ssrc, _unix_us(ntp), timestamp)
        at += 4 + 4 * (packet[at + 2] << 8 | packet[at + 3])
    return found


def receiver_report(own_ssrc: int, ssrc: int, highest_sequence: int) -> bytes:
    """A compound RTCP packet that tells the camera that it is heard (RFC 3550 sections 6.4.2 and 6.5).

    It tells of no loss, jitter and delay: over TCP they are not RTP's, and most packets are not looked at.
    """
    words = _OWN_REPORT.size // 4 - 1
    receiver = _OWN_REPORT.pack(_VERSION_2 | 1, _RECEIVER_REPORT, words, own_ssrc, ssrc, 0, highest_sequence, 0, 0, 0)
    name = b"crow"
    items = bytes([_CNAME, len(name)]) + name
    items += bytes(4 - len(items) % 4)  # at least one zero ends the list
    return receiver + struct.pack(">BBHI", _VERSION_2 | 1, _DESCRIPTION, 1 + len(items) // 4, own_ssrc) + items


def _unix_us(ntp: int) -> int:
    seconds = (ntp >> 32) - _NTP_EPOCH_S
    if seconds < 0:  # before 1970, so it is of the era that begins in 2036
        seconds += _NTP_ERA_S
    return seconds * 1_000_000 + ((ntp & 0xFFFF_FFFF) * 1_000_000 >> 32)
