"""A worker's life: orders in, runners of cameras started and stopped, reports out.

Invariants
1. Orders are carried out one after the other, by the thread of `run`.
2. A camera is read by one thread at a time. The daemon starts it again only after it was told that the old one ends.
3. A worker that is told to stop ends when no camera's thread has a picture in hand any more; one that waits for its
   camera's bytes is not waited for.
4. When the socket ends the daemon is gone, and so is the worker: nobody would take its frames.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import structlog

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.capture import chosen_source
from crow_daemon.capture.checkpoint import Checkpoint, Phase
from crow_daemon.capture.choice import StreamMemory
from crow_daemon.capture.outcome import Dropped
from crow_daemon.capture.runner import CameraRunner
from crow_daemon.capture.source import Source
from crow_daemon.detect.port import PersonDetector
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.secret import Credentials
from crow_daemon.worker.outbox import Outbox
from crow_daemon.worker.telling_monitor import TellingMonitor
from crow_daemon.worker.wire.camera import camera_from_wire, credentials_from_wire
from crow_daemon.worker.wire.framing import LENGTHS
from crow_shared.clock import Clock
from crow_shared.frame import Frame

log = structlog.get_logger()

LEAVING_S = 0.5  # for threads to hang up in order, once they are told to stop

OpenSource = Callable[[], Source]
LastCapture = Callable[[], int | None]
SourceOf = Callable[[Camera, Credentials | None, Clock, LastCapture], OpenSource]
"""What makes a fresh source for each attempt at reading a camera."""


class Session:
    """The one conversation of a worker with its daemon."""

    def __init__(
        self,
        sock: socket.socket,
        orders: Iterator[pb.Order],
        detector: PersonDetector | None,
        source_of: SourceOf,
        clock: Clock,
    ) -> None:
        """Reads no camera yet; `sock` is the daemon's, and `orders` what comes from it."""
        self._detector = detector
        self._orders = orders
        self._source_of = source_of
        self._clock = clock
        self._outbox = Outbox(sock, self._overdue, clock)
        self._runners: dict[str, CameraRunner] = {}  # replaced, never changed: other threads look through it
        self._sender = threading.Thread(target=self._report, name="reports", daemon=True)

    def run(self) -> None:
        """Until the daemon says stop or is gone. Raises CrowError for orders that make no sense."""
        self._sender.start()
        for order in self._orders:
            match order.WhichOneof("what"):
                case "start_camera":
                    self._start_camera(order.start_camera)
                case "stop_camera":
                    if runner := self._runners.get(order.stop_camera.camera_id):
                        runner.stop()
                case "pace":
                    if runner := self._runners.get(order.pace.camera_id):
                        runner.follow_pace(order.pace.asked_interval_ms)
                case "credit":
                    self._outbox.grant(order.credit)
                case "stop":
                    self._stop()
                    return

    def _start_camera(self, order: pb.StartCamera) -> None:
        camera = camera_from_wire(order.camera)
        checkpoint = Checkpoint(camera, self._clock)
        resume_after_us = order.resume_after_us if order.HasField("resume_after_us") else None
        sink = _CameraSink(self._outbox, checkpoint, resume_after_us)
        runner = CameraRunner(
            camera,
            self._source_of(camera, credentials_from_wire(order), self._clock, lambda: sink.last_capture_us),
            sink,
            TellingMonitor(camera.id, self._outbox.tell, self._clock),
            self._clock,
            checkpoint,
            self._detector,
            first_in_s=order.first_in_s,
        )
        self._runners = {key: old for key, old in self._runners.items() if not old.join(0)} | {camera.id: runner}
        runner.start()

    def _report(self) -> None:
        try:
            self._outbox.run()
        except OSError:  # invariant 4
            os._exit(0)

    def _stop(self) -> None:
        for runner in self._runners.values():
            runner.stop()
        ends_s = self._clock.monotonic_s() + LEAVING_S
        for runner in self._runners.values():
            while not runner.join(max(0.0, ends_s - self._clock.monotonic_s())) and runner.has_picture_in_hand:
                runner.join(LEAVING_S)
        self._outbox.close()
        self._sender.join()

    def _overdue(self) -> list[pb.Overdue]:
        """The cameras whose threads hang, as far as can be told."""
        found = []
        for camera_id, runner in self._runners.items():
            if overdue := runner.checkpoint.overdue():
                phase, lasts_s = overdue
                found.append(pb.Overdue(camera_id=camera_id, phase=phase, lasts_s=lasts_s))
        return found


class _CameraSink:
    """A camera's way to the outbox. Waiting for credit, as recordings do, is no hanging."""

    def __init__(self, outbox: Outbox, checkpoint: Checkpoint, last_capture_us: int | None) -> None:
        self._outbox = outbox
        self._checkpoint = checkpoint
        self.last_capture_us = last_capture_us

    def offer(self, frame: Frame) -> bool:
        self._checkpoint.passed(Phase.PROCESSING)
        taken = self._outbox.offer(frame)
        if taken:
            self.last_capture_us = frame.capture_us
        return taken

    @property
    def refusal(self) -> Dropped:
        return self._outbox.refusal


def source_of(
    camera: Camera, credentials: Credentials | None, clock: Clock, last_capture_us: LastCapture
) -> OpenSource:
    """The readers for cameras and recordings."""
    memory = StreamMemory(camera)
    return lambda: chosen_source.source_of(camera, credentials, clock, memory, last_capture_us())


def orders(sock: socket.socket) -> Iterator[pb.Order]:
    """The daemon's orders, until it is gone."""
    with sock.makefile("rb") as incoming:
        while len(prefix := incoming.read(LENGTHS.size)) == LENGTHS.size:
            length, _ = LENGTHS.unpack(prefix)
            body = incoming.read(length)
            if len(body) < length:
                return
            yield pb.Order.FromString(body)
