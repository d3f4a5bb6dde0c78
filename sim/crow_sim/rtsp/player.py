"""Plays one mount to one client, in real time and for ever.

1. RTP timestamps advance with the time since PLAY, across loops and reconfigurations alike (`back_after_s`,
   `restart_after_s` apart).
2. A packet that is dropped on purpose still takes its sequence number, so that the client can see the gap.
3. Faults and media are looked up before every picture: a change takes effect at once, for every client of the mount.
"""

import asyncio
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from crow_sim.rtsp.channel import Channel
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.media import RTP_CLOCK_HZ, VIDEO_TYPE, AccessUnit, Media
from crow_sim.rtsp.packing import Packer

_NTP_EPOCH_S = 2_208_988_800  # 1970 seen from 1900
_SENDER_REPORT = struct.Struct(">BBHIQIII")
_VERSION_2, _PT_SENDER_REPORT = 0x80, 200
_CORRUPT_FROM_BYTE = 40  # the headers of a slice stay readable, so that the picture decodes to something wrong
_GARBAGE_BYTES = 1000
_WRAP_AFTER_PACKETS = 100


@dataclass(slots=True)
class Mount:
    """One served camera."""

    name: str
    media: Media
    faults: Faults = field(default_factory=Faults)
    joined_anywhere: bool = False  # a client sees the clip from a random picture on, not from the first
    replacement: Media | None = None  # what `faults.switch_to` names
    players: int = 0
    spared: int = 0  # requests that `faults.redirect_spares` let through

    def redirects(self, method: str) -> bool:
        """Whether this request is to be answered with a redirect."""
        if self.faults.redirect_to is None or method != self.faults.redirect_at:
            return False
        self.spared += 1
        return self.spared > self.faults.redirect_spares


class End(Enum):
    """How a client's connection ends when the camera ends it."""

    CLOSED = auto()
    RESET = auto()


class Player:
    """One client's stream."""

    def __init__(self, mount: Mount, channel: Channel) -> None:
        self._mount = mount
        self._channel = channel
        self._random = np.random.default_rng(mount.faults.seed)
        self._first = secrets.randbelow(len(mount.media.units)) if mount.joined_anywhere else 0
        self._restarted = False
        self._garbled = False
        self._begin()
        if mount.faults.wrap_after_s is not None:
            self._timestamp_base = (1 << 32) - int(mount.faults.wrap_after_s * RTP_CLOCK_HZ)
            self._sequence = (1 << 16) - _WRAP_AFTER_PACKETS

    @property
    def rtp_info(self) -> str:
        """Where the stream begins, for the RTP-Info header of PLAY's answer."""
        return f"seq={self._sequence};rtptime={self._timestamp_base}"

    async def run(self) -> End:
        """Plays until cancelled, or until a fault ends the connection."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        next_report_s = 0.0
        last_key: AccessUnit | None = None
        self._mount.players += 1
        try:
            for due_s, shown_s, unit in self._pictures():
                await asyncio.sleep(max(0.0, started + due_s - loop.time()))
                faults = self._mount.faults
                if _reached(faults.close_after_s, due_s):
                    return End.CLOSED
                if _reached(faults.reset_after_s, due_s):
                    return End.RESET
                if _reached(faults.switch_after_s, due_s) and self._mount.replacement is not None:
                    self._mount.media, self._mount.replacement = self._mount.replacement, None
                if _reached(faults.stall_after_s, due_s):
                    continue
                if _reached(faults.restart_after_s, due_s) and not self._restarted:
                    self._restarted = True
                    self._begin()
                if _reached(faults.garbage_after_s, due_s) and not self._garbled:
                    self._garbled = True
                    self._channel.send_garbage(self._random.bytes(_GARBAGE_BYTES))
                if last_key is None or (unit.is_key and not _reached(faults.freeze_after_s, due_s)):
                    last_key = unit
                back_s = faults.back_by_s if _reached(faults.back_after_s, due_s) else 0.0
                timestamp = (self._timestamp_base + int((shown_s - back_s) * RTP_CLOCK_HZ)) & 0xFFFF_FFFF
                if faults.reports and due_s >= next_report_s:
                    next_report_s = due_s + faults.report_every_s
                    self._channel.send_control(self._sender_report(timestamp, _clock_ahead_s(faults, due_s)))
                shown = last_key if _reached(faults.freeze_after_s, due_s) else unit
                await self._channel.send(self._packets_of(shown, timestamp, faults))
        finally:
            self._mount.players -= 1
        raise AssertionError("a loop over a mount's pictures has no end")

    def _begin(self) -> None:
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self._timestamp_base = secrets.randbits(31)
        self._packets = 0
        self._octets = 0
        self._packer = Packer(self._mount.media.packing, VIDEO_TYPE, self._ssrc)

    def _pictures(self) -> Iterator[tuple[float, float, AccessUnit]]:
        """The pictures of the mount, over and over: (when to send, timestamp), both in seconds since PLAY."""
        first = self._first
        loop_start_s = -self._mount.media.units[first].due_s
        while True:
            media = self._mount.media
            position_s = 0.0
            for unit in media.units[first:]:
                if self._mount.media is not media:
                    break
                yield loop_start_s + unit.due_s, loop_start_s + unit.presentation_s, unit
                position_s = unit.due_s + 1 / media.fps
            first = 0
            loop_start_s += media.duration_s if self._mount.media is media else position_s

    def _packets_of(self, unit: AccessUnit, timestamp: int, faults: Faults) -> list[bytes]:
        packets = []
        packet = self._packer.packet
        last = len(unit.payloads) - 1
        for number, payload in enumerate(unit.payloads):
            sequence, self._sequence = self._sequence, (self._sequence + 1) & 0xFFFF
            if faults.drop_share and self._random.random() < faults.drop_share:
                continue
            damage = faults.corrupt_share and self._random.random() < faults.corrupt_share
            sent = self._damaged(payload, faults.corrupt_bytes) if damage else payload
            packets.append(packet(sequence, timestamp, sent, ends_picture=number == last))
            self._packets += 1
            self._octets += len(sent)
        return packets

    def _damaged(self, payload: bytes, count: int) -> bytes:
        if len(payload) <= _CORRUPT_FROM_BYTE:
            return payload
        begin = self._random.integers(_CORRUPT_FROM_BYTE, len(payload))
        damaged = bytearray(payload)
        damaged[begin : begin + count] = bytes(byte ^ 0xFF for byte in payload[begin : begin + count])
        return bytes(damaged)

    def _sender_report(self, timestamp: int, ahead_s: float) -> bytes:
        """RFC 3550 section 6.4.1: says which wall-clock time the RTP timestamp stands for."""
        ntp = int((time.time() + ahead_s + _NTP_EPOCH_S) * (1 << 32))
        words = _SENDER_REPORT.size // 4 - 1
        octets = self._octets & 0xFFFF_FFFF
        return _SENDER_REPORT.pack(
            _VERSION_2, _PT_SENDER_REPORT, words, self._ssrc, ntp, timestamp, self._packets, octets
        )


def _reached(after_s: float | None, now_s: float) -> bool:
    return after_s is not None and now_s >= after_s


def _clock_ahead_s(faults: Faults, now_s: float) -> float:
    jumped = _reached(faults.clock_jump_after_s, now_s)
    return faults.clock_ahead_s + (faults.clock_jump_by_s if jumped else 0.0)
