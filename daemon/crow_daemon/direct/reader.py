"""One stream that plays, as `ReadingThread` reads it and its camera's thread takes the keyframes.

Invariants
1. `look` never waits. Keyframes that nobody takes are held up to `_MOST_HELD`; then the socket is left alone until they
   are taken, as if the camera's thread read it itself.
2. The stream ends once, by a CrowError, for no video in `READ_TIMEOUT_S`, for no whole keyframe for long, or for what
   the camera or its bytes did; what came before is taken first.
3. No stream keeps the others that the thread reads waiting: what a look takes in is bounded, and one that needs more of
   the thread's time, or has more keyframes, than any camera's ends.
"""

import time
from queue import SimpleQueue

from crow_daemon.capture.state import STREAM_STALLED
from crow_daemon.direct.allowance import Allowance
from crow_daemon.direct.failures import unsupported
from crow_daemon.direct.interleaved import InterleavedStream
from crow_daemon.direct.keyframes import Keyframe, KeyframeAssembler
from crow_daemon.direct.timeline import Timeline
from crow_daemon.rtsp.failures import FIRST_KEYFRAME_S, READ_TIMEOUT_S, STREAM_UNDECODABLE
from crow_daemon.rtsp.session import RtspSession
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

MIN_PATIENCE_S = 10.0  # later: this, or three times the longest distance of keyframes
YOUNG_S = 2.0  # for so long the system does not know yet how much it has to hold between two looks

Item = tuple[Keyframe | None, int]  # None for a damaged keyframe; when it arrived, in microseconds since the Unix epoch

_MOST_HELD = 4
_MOST_READS = 16  # in one look
_LOOK_S = 0.02  # of the processor; then no more is read in this look
# A camera's stream takes about a thousandth of a processor, and has keyframes alone at most. What has waited while
# nobody took pictures comes at once.
_PROCESSOR_SHARE, _PROCESSOR_S = 0.1, 1.0
_KEYFRAMES_A_SECOND, _KEYFRAMES_AT_ONCE = 120, 1000


class KeyframeReader:
    """Of one connection. `look` is for the reading thread, `take` for the camera's, `stop` for any."""

    def __init__(
        self,
        session: RtspSession,
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
        self._sock, self._early = session.stream()
        self._held: SimpleQueue[Item | Exception | None] = SimpleQueue()
        self._found_now: list[Item] = []
        self._stopped = False
        self._hurried = True  # more may be there than the system can hold until the next look at leisure
        self._looked_us = clock.now_us()
        self._begun_s = clock.monotonic_s()
        self._video_s = self._keyframe_s = self._begun_s  # when the last ones came
        self._processor = Allowance(_PROCESSOR_SHARE, _PROCESSOR_S, self._begun_s)  # seconds
        self._keyframes = Allowance(_KEYFRAMES_A_SECOND, _KEYFRAMES_AT_ONCE, self._begun_s)
        self._longest_s: float | None = None  # from one keyframe to the next; None before the second
        self._found = False  # a whole keyframe
        self._damaged = False  # one that was not whole

    def take(self) -> Item | None:
        """The next keyframe; None once `stop` was called. Raises the CrowError by which the stream ended."""
        item = self._held.get()
        if self._stopped or item is None:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Ends `take` at once."""
        self._stopped = True
        self._held.put(None)

    def hand_over(self) -> None:
        """Lets `take` have what `look` found. Apart from it, since a thread that wakes disturbs the one that reads."""
        found, self._found_now = self._found_now, []
        for item in found:
            self._held.put(item)

    def end(self, error: Exception) -> None:
        """The stream is not looked at any more."""
        self.hand_over()
        self._held.put(error)

    @property
    def hurried(self) -> bool:
        """Whether the next look had better be soon."""
        return self._hurried

    def look(self) -> None:
        """Goes through what has come. Raises the CrowError by which the stream ends."""
        now_s = self._clock.monotonic_s()
        if self._held.qsize() >= _MOST_HELD:
            self._video_s = now_s  # what comes waits for us, not we for it
        else:
            began_s = time.thread_time()
            self._read(now_s, until_s=began_s + _LOOK_S)
            self._watch(now_s)
            if not self._processor.covers(time.thread_time() - began_s, now_s):
                raise self._flood(f"takes more than {_PROCESSOR_SHARE:.0%} of a processor")
        self._session.tend(now_s, self._assembler.ssrc, self._assembler.next_sequence or 0)

    def _read(self, now_s: float, until_s: float) -> None:
        """Takes in what has come, until there is no more or the thread's own clock shows `until_s`."""
        now_us = self._clock.now_us()
        early, self._early = self._early, b""
        while early:
            space = self._stream.space()
            part, early = early[: len(space)], early[len(space) :]
            space[: len(part)] = part
            self._walk(len(part), now_s)
        filled = True
        for _ in range(_MOST_READS):
            space = self._stream.space()
            received = self._received(space)
            if received:
                self._walk(received, now_s)
            filled = received == len(space)
            for keyframe in self._assembler.take_finished():
                self._hold(keyframe, now_s, now_us)
            if not filled or len(self._found_now) >= _MOST_HELD or time.thread_time() > until_s:
                break
        self._hurried = filled or now_s - self._begun_s < YOUNG_S
        self._looked_us = now_us

    def _received(self, space: memoryview) -> int:
        try:
            received = self._sock.recv_into(space)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._session.lost(f"ended the stream ({type(error).__name__})") from None
        if not received:
            raise self._session.lost("ended the stream")
        return received

    def _walk(self, received: int, now_s: float) -> None:
        if self._stream.walk(received):
            self._video_s = now_s
        for answer in self._stream.take_answers():
            self._session.answered(answer)

    def _hold(self, keyframe: Keyframe | None, now_s: float, now_us: int) -> None:
        if not self._keyframes.covers(1, now_s):
            raise self._flood(f"has more than {_KEYFRAMES_A_SECOND} keyframes a second")
        if keyframe is None:
            self._damaged = True
            self._found_now.append((None, now_us))
            return
        if self._found:
            self._longest_s = max(self._longest_s or 0.0, now_s - self._keyframe_s)
        self._found, self._keyframe_s = True, now_s
        # The newest packet has just come, so this keyframe earlier; but not before the last look.
        age_us = self._timeline.distance_us(keyframe.timestamp, self._assembler.newest_timestamp)
        self._found_now.append((keyframe, min(now_us, max(now_us - max(0, age_us), self._looked_us))))

    def _flood(self, how: str) -> CrowError:
        return CrowError(Kind.TOO_LARGE, "stream_flood", f"the stream of {self._session.where} {how}: no camera's does")

    def _watch(self, now_s: float) -> None:
        """Raises CrowError when it is no use to wait any longer."""
        if now_s - self._video_s > READ_TIMEOUT_S:
            raise CrowError(
                Kind.TIMEOUT, STREAM_STALLED, f"{self._session.where} sent nothing for {READ_TIMEOUT_S:.0f} seconds"
            )
        if now_s - self._keyframe_s <= MIN_PATIENCE_S:
            return
        patience_s = FIRST_KEYFRAME_S if self._longest_s is None else max(MIN_PATIENCE_S, 3 * self._longest_s)
        if now_s - self._keyframe_s <= patience_s:
            return
        if not self._found and not self._damaged:
            raise unsupported(f"no keyframe came within {patience_s:.3g} seconds")
        raise CrowError(
            Kind.UNAVAILABLE,
            STREAM_UNDECODABLE,
            f"{self._session.where} sent no whole keyframe for {patience_s:.3g} seconds",
        )
