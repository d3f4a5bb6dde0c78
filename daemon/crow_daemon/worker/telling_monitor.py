"""The `Monitor` of a camera in a worker: what it is told goes to the daemon, with the moment at which it was."""

from collections.abc import Callable

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.capture.outcome import SENT, Outcome
from crow_daemon.capture.source import StreamInfo
from crow_daemon.worker.wire.framing import MAX_WORDS_CHARACTERS
from crow_shared.clock import Clock
from crow_shared.errors import CrowError


class TellingMonitor:
    """Of one camera."""

    def __init__(self, camera_id: str, tell: Callable[[pb.Event], None], clock: Clock) -> None:
        """`tell` takes the events."""
        self._camera_id = camera_id
        self._tell = tell
        self._clock = clock

    def connecting(self) -> None:
        """A connection is being tried."""
        event = self._event()
        event.connecting.SetInParent()
        self._tell(event)

    def live(self, stream: StreamInfo) -> None:
        """The first whole picture of a connection has come; or what is said of its stream is different from now on."""
        event = self._event()
        event.live.CopyFrom(
            pb.Stream(
                codec=stream.codec,
                width=stream.width,
                height=stream.height,
                fps=stream.fps,
                end_us=stream.end_us,
                reader=stream.reader,
                mode=stream.mode,
                why=stream.why[:MAX_WORDS_CHARACTERS],
            )
        )
        self._tell(event)

    def failed(self, error: CrowError) -> None:
        """A connection could not be made or was lost."""
        event = self._event()
        message = error.message[:MAX_WORDS_CHARACTERS]
        event.failed.CopyFrom(pb.Failure(kind=error.kind, code=error.code, message=message))
        self._tell(event)

    def damaged(self) -> None:
        """A picture came that could not be decoded whole."""
        event = self._event()
        event.damaged.SetInParent()
        self._tell(event)

    def clock_jumped(self, times: int) -> None:
        """The stream's time parted from ours."""
        event = self._event()
        event.clock_jumps = times
        self._tell(event)

    def sampled(self, capture_us: int, skipped_ticks: int, clock_skew_us: int | None = None) -> None:
        """A sample was taken; its outcome follows."""
        event = self._event()
        event.sampled.capture_us, event.sampled.skipped_ticks = capture_us, skipped_ticks
        if clock_skew_us is not None:
            event.sampled.clock_skew_us = clock_skew_us
        self._tell(event)

    def outcome(self, capture_us: int, outcome: Outcome) -> None:
        """What became of the sample of that time. That it was sent, its frame tells."""
        if outcome == SENT:
            return
        event = self._event()
        event.outcome.capture_us, event.outcome.word = capture_us, outcome
        self._tell(event)

    def alert(self, word: str | None) -> None:
        """Something is wrong with what the camera shows; None: not any more."""
        event = self._event()
        event.alert = word or ""
        self._tell(event)

    def finished(self, remaining_ticks: int) -> None:
        """A recording ended, so many ticks before it should have."""
        event = self._event()
        event.finished.remaining_ticks = remaining_ticks
        event.finished.SetInParent()
        self._tell(event)

    def stopped(self) -> None:
        """The camera's thread ends."""
        event = self._event()
        event.stopped.SetInParent()
        self._tell(event)

    def _event(self) -> pb.Event:
        return pb.Event(camera_id=self._camera_id, monotonic_us=round(self._clock.monotonic_s() * 1_000_000))
