"""What the cameras of a worker have to say, on its way to the daemon.

Invariants
1. A frame is taken against a credit or not at all, and what was taken reaches the daemon unless one of both dies.
2. Events leave in the order in which they were told, and in one report with the frames that were offered meanwhile.
3. Memory is bounded: frames by the credits, events by `MAX_EVENTS`; beyond that a camera's thread waits.
4. A report leaves at least every `BEAT_S`, however quiet the cameras are: it shows that this process can run Python.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.capture.outcome import Dropped
from crow_daemon.worker.wire.framing import MAX_EVENTS, MAX_PICTURES_BYTES, packed
from crow_shared.clock import Clock
from crow_shared.frame import Frame, TimeSource, to_wire

BEAT_S = 1.0
GATHER_S = 0.5  # what comes within this time leaves together: each report costs the daemon, spool and uplink a round


class Outbox:
    """Filled by the threads of all cameras, emptied by `run` in one more; a `FrameSink`."""

    def __init__(self, sock: socket.socket, overdue: Callable[[], Sequence[pb.Overdue]], clock: Clock) -> None:
        """Empty, and without any credit. `overdue` is asked for each beat."""
        self._sock = sock
        self._overdue = overdue
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._events: list[pb.Event] = []
        self._frames: list[Frame] = []
        self._frames_bytes = 0
        self._credit = pb.Credit(refusal=Dropped.OVERLOAD)
        self._taken = 0  # frames, ever
        self._taken_bytes = 0
        self._closed = False

    def tell(self, event: pb.Event) -> None:
        """Something has happened."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) < MAX_EVENTS)
            self._events.append(event)
            self._wake()

    def offer(self, frame: Frame) -> bool:
        """Takes the frame, or returns False at once when there is no credit for it."""
        size_bytes = len(frame.payload)
        with self._changed:
            credit = self._credit
            if self._taken + 1 > credit.frames or self._taken_bytes + size_bytes > credit.bytes:
                return False
            if frame.time_source is TimeSource.RECORDING and not credit.recordings:
                return False
            self._taken += 1
            self._taken_bytes += size_bytes
            self._frames.append(frame)
            self._frames_bytes += size_bytes
            self._wake()
        return True

    @property
    def refusal(self) -> Dropped:
        """Why `offer` says no at present."""
        with self._changed:
            return Dropped(self._credit.refusal)

    def grant(self, credit: pb.Credit) -> None:
        """The daemon has this much room, all told."""
        with self._changed:
            self._credit = credit

    def run(self) -> None:
        """Sends reports until `close`, and then all that is left. Raises OSError when the daemon is gone."""
        closed, beat_s = False, self._clock.monotonic_s()
        while not closed:
            with self._changed:
                wait_s = max(0.0, beat_s + BEAT_S - self._clock.monotonic_s())
                self._changed.wait_for(self._is_urgent_or_begun, wait_s)
                if self._events or self._frames:
                    self._changed.wait_for(self._is_urgent, GATHER_S)
                closed = self._closed
                events, self._events = self._events, []
                frames, self._frames, self._frames_bytes = self._frames, [], 0
                self._changed.notify_all()
            beat = self._clock.monotonic_s() - beat_s >= BEAT_S
            if beat:
                beat_s = self._clock.monotonic_s()
            if events or frames or beat:
                self._send(events, frames, self._overdue() if beat else ())

    def close(self) -> None:
        """Nothing more is told or offered: `run` may end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wake(self) -> None:
        """Wakes `run` for the first thing to send, and when it is enough for a report."""
        if len(self._events) + len(self._frames) == 1 or self._is_urgent():
            self._changed.notify_all()

    def _is_urgent_or_begun(self) -> bool:
        return bool(self._events or self._frames) or self._closed

    def _is_urgent(self) -> bool:
        return self._closed or len(self._events) >= MAX_EVENTS // 2 or self._frames_bytes >= MAX_PICTURES_BYTES // 4

    def _send(self, events: Sequence[pb.Event], frames: Sequence[Frame], overdue: Sequence[pb.Overdue]) -> None:
        pictures = [frame.payload for frame in frames]
        report = pb.Report(
            events=events,
            frames=[to_wire(replace(frame, payload=b"")) for frame in frames],
            picture_bytes=[len(picture) for picture in pictures],
            overdue=overdue,
        )
        self._sock.sendall(packed(report, sum(report.picture_bytes)))
        for picture in pictures:
            self._sock.sendall(picture)
