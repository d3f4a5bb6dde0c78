"""Reads the socket of a stream that plays, now and then, and gives the keyframes in it.

A camera's thread sleeps, takes what has come in the meantime off the socket in one piece, and goes through it; so what
a camera costs is how often its thread wakes and how many packets come.

Invariants
1. A sleep ends at once by the `stop` event; nothing else is waited for.
2. Memory is bounded by the buffer of `InterleavedStream`, a keyframe, and what the system keeps for the socket: a
   camera that sends faster is read more often.
3. A stream is given up when no video came for `READ_TIMEOUT_S`, or no whole keyframe for long.
"""

import socket
import threading
from collections.abc import Iterator

from crow_daemon.capture.state import STREAM_STALLED
from crow_daemon.direct.failures import unsupported
from crow_daemon.direct.interleaved import InterleavedStream
from crow_daemon.direct.keyframes import Keyframe, KeyframeAssembler
from crow_daemon.direct.session import Session
from crow_daemon.direct.timeline import Timeline
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

READ_TIMEOUT_S = 4.0
FIRST_KEYFRAME_S = 30.0  # a camera may send the rest of a long group of pictures before its first keyframe
MIN_PATIENCE_S = 10.0  # later: this, or three times the longest distance of keyframes

_SLEEP_S = (0.02, 0.25)  # between two looks at the socket: shortest, and longest
_SHORTER, _LONGER = 0.5, 1.25  # after a look that filled the buffer; after one that brought little
_LITTLE_BYTES = 128 << 10


class KeyframeReader:
    """Of one connection. Used by one thread."""

    def __init__(
        self,
        session: Session,
        stream: InterleavedStream,
        assembler: KeyframeAssembler,
        timeline: Timeline,
        clock: Clock,
    ) -> None:
        """`session` plays."""
        self._session = session
        self._stream = stream
        self._assembler = assembler
        self._timeline = timeline
        self._clock = clock
        self._sleep_s = _SLEEP_S[0]
        self._more = False  # the last look did not empty the socket
        self._looked_us = clock.now_us()
        self._video_s = self._keyframe_s = clock.monotonic_s()
        self._longest_s = 0.0  # between two keyframes
        self._found = False  # a whole keyframe
        self._damaged = False  # one that was not whole

    def keyframes(self, stop: threading.Event) -> Iterator[tuple[Keyframe | None, int]]:
        """Each keyframe, None for a damaged one, and when it arrived, in microseconds since the Unix epoch.

        Ends when `stop` is set. Raises CrowError when the stream ends, stalls, or is not for this reader.
        """
        sock, early = self._session.stream()
        while early:
            space = self._stream.space()
            part, early = early[: len(space)], early[len(space) :]
            space[: len(part)] = part
            yield from self._walked(len(part))
        while not stop.wait(0.0 if self._more else self._sleep_s):
            yield from self._walked(self._received(sock))
            now_s = self._clock.monotonic_s()
            self._watch(now_s)
            for answer in self._stream.take_answers():
                self._session.answered(answer)
            self._session.tend(now_s, self._assembler.ssrc, self._assembler.next_sequence or 0)

    def _received(self, sock: socket.socket) -> int:
        """How many bytes came into the stream's space."""
        space = self._stream.space()
        try:
            received = sock.recv_into(space)
        except BlockingIOError:
            received = 0
        except OSError as error:
            raise self._session.lost(f"ended the stream ({type(error).__name__})") from None
        else:
            if not received:
                raise self._session.lost("ended the stream")
        self._more = received == len(space)
        if self._more:
            self._sleep_s = max(_SLEEP_S[0], self._sleep_s * _SHORTER)
        elif received < _LITTLE_BYTES:
            self._sleep_s = min(_SLEEP_S[1], self._sleep_s * _LONGER)
        return received

    def _walked(self, received: int) -> Iterator[tuple[Keyframe | None, int]]:
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        if received and self._stream.walk(received):
            self._video_s = now_s
        for keyframe in self._assembler.take_finished():
            if keyframe is None:
                self._damaged = True
                yield None, now_us
            else:
                if self._found:
                    self._longest_s = max(self._longest_s, now_s - self._keyframe_s)
                self._found, self._keyframe_s = True, now_s
                yield keyframe, self._arrival_us(keyframe, now_us)
        self._looked_us = now_us

    def _arrival_us(self, keyframe: Keyframe, now_us: int) -> int:
        """The newest packet has just come, at most: this keyframe earlier, but not before the look before this one."""
        age_us = self._timeline.distance_us(keyframe.timestamp, self._assembler.newest_timestamp)
        return min(now_us, max(now_us - max(0, age_us), self._looked_us))

    def _watch(self, now_s: float) -> None:
        """Raises CrowError when it is no use to wait any longer."""
        if now_s - self._video_s > READ_TIMEOUT_S:
            raise CrowError(
                Kind.TIMEOUT, STREAM_STALLED, f"{self._session.where} sent nothing for {READ_TIMEOUT_S:.0f} seconds"
            )
        patience_s = max(MIN_PATIENCE_S, 3 * self._longest_s) if self._longest_s else FIRST_KEYFRAME_S
        if now_s - self._keyframe_s <= patience_s:
            return
        if not self._found and not self._damaged:
            raise unsupported(f"no keyframe came within {patience_s:.0f} seconds")
        raise CrowError(
            Kind.UNAVAILABLE,
            "stream_undecodable",
            f"{self._session.where} sent no whole keyframe for {patience_s:.0f} seconds",
        )
