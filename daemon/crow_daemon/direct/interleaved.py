"""Walks what comes on an RTSP connection that streams (RFC 2326 section 10.12), and looks at as little as possible.

Most bytes of a stream are of pictures that are not wanted. So of each packet its length is read, and the byte that says
what it holds; only packets of keyframes are taken. No I/O: whoever reads the socket fills `space()` and calls `walk`.

Invariants
1. The same bytes give the same keyframes, reports and answers, however they are cut.
2. Between two calls of `walk` a stream keeps what is incomplete alone: a packet, an answer, a keyframe.
3. What is no packet is passed over, up to the next packet of this stream; more than `_MAX_GARBAGE_BYTES` of it in a row
   are an error. A place in it where a packet or an answer might have begun counts for more, as it takes longer.
"""

import re
import struct
from typing import Literal

from crow_daemon.direct.keyframes import KeyframeAssembler
from crow_daemon.rtsp.message import Answer, next_answer
from crow_daemon.rtsp.payloads import Look
from crow_daemon.rtsp.rtp import HEADER_BYTES, PLAIN, SenderReport, payload_begin, sender_report
from crow_shared.errors import CrowError, Kind

BUFFER_BYTES = 512 << 10  # more than the longest packet or answer, and than most cameras send between two looks
_BEYOND = 16  # bytes behind the space, so that the headers of an empty packet at its end can be looked at
_DOLLAR = 0x24
_FRAME_BYTES = 4  # "$", channel, length
_MAX_GARBAGE_BYTES = 1 << 20
_FALSE_START_BYTES = 128
_MAY_BEGIN = re.compile(rb"\$|R(?=T|\Z)")  # a packet, or an answer
_FRAME = struct.Struct(">HHB")  # "$" and channel, length, and the first byte of the packet
_RTP_HEADER = struct.Struct(">BBHII")


class Buffer:
    """Where bytes are received and gone through; shared by all streams that one thread reads."""

    def __init__(self) -> None:
        """Empty."""
        self.data = bytearray(BUFFER_BYTES + _BEYOND)
        self.view = memoryview(self.data)


class InterleavedStream:
    """The bytes of one connection."""

    def __init__(
        self, assembler: KeyframeAssembler, payload_type: int, channels: tuple[int, int], buffer: Buffer
    ) -> None:
        """`channels` are those of RTP and RTCP; `buffer` is not used by others between `space` and `walk`."""
        self._assembler = assembler
        self._payload_type = payload_type
        self._rtp_channel, self._rtcp_channel = channels
        self._buffer, self._view = buffer.data, buffer.view
        self._rest = b""  # the beginning of a packet or an answer
        self._answers: list[Answer] = []
        self._lost = False  # what comes next need not be the beginning of a packet or an answer
        self._garbage_bytes = 0  # since the last packet
        self.report: SenderReport | None = None  # the latest

    def space(self) -> memoryview:
        """Where to put the bytes that come next."""
        self._view[: len(self._rest)] = self._rest
        return self._view[len(self._rest) : BUFFER_BYTES]

    def walk(self, received: int) -> bool:
        """Goes through so many bytes more; whether packets of the video were among them. Raises CrowError."""
        buffer, view, take, unpack = self._buffer, self._view, self._assembler.take, _FRAME.unpack_from
        first_bytes, fragment_bytes = self._assembler.first_bytes, self._assembler.fragment_bytes
        video_start, fragment_at = _DOLLAR << 8 | self._rtp_channel, self._assembler.fragment_at
        fragment, plain = int(Look.FRAGMENT), PLAIN
        engaged, lost = self._assembler.engaged, self._lost
        position, passed, video = 0, -1, False
        end = len(self._rest) + received
        while position + _FRAME_BYTES <= end:
            start, length, flags = unpack(buffer, position)
            if start != video_start or lost:
                position, lost, stuck = self._aside(position, end, lost=lost)
                if stuck:
                    break
                continue
            following = position + _FRAME_BYTES + length
            if following > end:
                break
            payload = position + _FRAME_BYTES + HEADER_BYTES
            if flags != plain:
                payload = payload_begin(buffer, position + _FRAME_BYTES, following)
            if payload > following:  # no RTP packet
                lost = not self._is_ours(position)
                position = position if lost else following
                continue
            if not engaged:
                look = first_bytes[buffer[payload]]
                if look == fragment:
                    look = fragment_bytes[buffer[payload + fragment_at]]
                if look and passed >= 0:
                    self._assembler.passed_over(view[passed : passed + HEADER_BYTES])
                    passed = -1
                engaged = look != 0
            if engaged:
                take(view[position + _FRAME_BYTES : following])
                engaged = self._assembler.engaged
                first_bytes = self._assembler.first_bytes
            else:
                passed = position + _FRAME_BYTES
            video = True
            position = following
        if passed >= 0:
            self._assembler.passed_over(view[passed : passed + HEADER_BYTES])
        self._lost, self._rest = lost, bytes(view[position:end])
        return video

    def take_answers(self) -> list[Answer]:
        """What was answered between the packets since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def _aside(self, position: int, end: int, *, lost: bool) -> tuple[int, bool, bool]:
        """Passes over what is no packet of the video: where to go on, whether lost, whether more has to come first."""
        if lost or self._buffer[position] != _DOLLAR:
            position, found = self._back_on_track(position, end)
            return position, not found, not found
        _, length, _ = _FRAME.unpack_from(self._buffer, position)
        following = position + _FRAME_BYTES + length
        if following > end:
            return position, False, True
        if self._buffer[position + 1] == self._rtcp_channel:
            self.report = sender_report(self._view[position + _FRAME_BYTES : following]) or self.report
        return following, False, False

    def _back_on_track(self, position: int, end: int) -> tuple[int, bool]:
        """Where the next packet begins, behind an answer or garbage; False when that is still to come."""
        verdict = self._begins(position, end)
        while verdict is False:
            found = _MAY_BEGIN.search(self._buffer, position + 1, end)
            following = found.start() if found else end
            self._garbage_bytes += following - position + _FALSE_START_BYTES
            if self._garbage_bytes > _MAX_GARBAGE_BYTES:
                raise CrowError(Kind.CORRUPT, "stream_garbled", "the camera sends what is no RTP")
            position = following
            verdict = self._begins(position, end)
        if verdict is None:
            return position, False
        self._garbage_bytes = 0
        return verdict, True

    def _begins(self, at: int, end: int) -> int | Literal[False] | None:
        """`at` if a packet of the stream begins there; if an answer does, where it ends; None if that is to be seen."""
        buffer = self._buffer
        if at == end:
            return None
        if buffer[at] != _DOLLAR:
            try:
                found = next_answer(buffer, at, end)
            except CrowError:
                return False
            if found is None:
                return None
            self._answers.append(found[0])
            return found[1]
        if end - at < _FRAME_BYTES + HEADER_BYTES:
            return None
        return at if self._is_ours(at) else False

    def _is_ours(self, at: int) -> bool:
        """Whether the header of a packet of the video lies there."""
        start, length, _ = _FRAME.unpack_from(self._buffer, at)
        begin = at + _FRAME_BYTES
        flags, kind, _, _, ssrc = _RTP_HEADER.unpack_from(self._buffer, begin)
        return (
            start == _DOLLAR << 8 | self._rtp_channel
            and length >= HEADER_BYTES
            and flags & 0xC0 == PLAIN & 0xC0
            and kind & 0x7F == self._payload_type
            and self._assembler.ssrc in (None, ssrc)
        )
