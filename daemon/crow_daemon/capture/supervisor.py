"""Keeps one runner per enabled camera, as the registry says.

Invariants
1. After `reconcile`, exactly the enabled, unfinished cameras have a runner, each of the camera's present revision; the
   runners of cameras that did not change are not touched.
2. A camera has one capture at a time: a changed one is started anew only when its old thread has ended.
3. A runner samples at the pace that was asked of its camera last, from its start on.
4. A recording that was read to its end is marked in the registry, so that it is not read again after a restart. One
   that was interrupted goes on behind the camera's last frame that was taken over.
5. Exactly the enabled, unfinished cameras are expected to give samples, from `reconcile` on.

`reconcile` and `stop` belong to one thread; `states` and `follow_pace` may be called from any.
"""

import threading
from collections.abc import Callable, Mapping

import structlog

from crow_daemon.capture.choice import StreamMemory
from crow_daemon.capture.chosen_source import source_of
from crow_daemon.capture.runner import CameraRunner
from crow_daemon.capture.source import FrameSink, Source
from crow_daemon.capture.state import CameraMonitor, CameraSnapshot, CameraState
from crow_daemon.ledger.book import Book
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials
from crow_shared.clock import Clock, Moment

log = structlog.get_logger()

SourceOf = Callable[[Camera, Credentials | None, Clock, StreamMemory, int | None], Source]
LastCapture = Callable[[str], int | None]


class CaptureSupervisor:
    """All cameras of one daemon."""

    def __init__(
        self,
        registry: Registry,
        sink: FrameSink,
        book: Book,
        clock: Clock,
        source_of: SourceOf = source_of,
        last_capture_us: LastCapture = lambda _camera_id: None,
    ) -> None:
        """Nothing runs before `start`; `sink` is called from the cameras' threads, `book` learns of every sample.

        `last_capture_us` tells, by id, when a camera's last frame that the sink took over was captured.
        """
        self._registry = registry
        self._sink = sink
        self._book = book
        self._clock = clock
        self._source_of = source_of
        self._last_capture_us = last_capture_us
        self._lock = threading.Lock()  # guards the four fields below
        self._runners: dict[str, CameraRunner] = {}
        self._idle: dict[str, CameraSnapshot] = {}  # disabled and finished cameras
        self._leaving: dict[str, CameraRunner] = {}  # stopped, but its thread has not ended yet
        self._paces: dict[str, int] = {}
        self._version = 0

    def start(self) -> None:
        """Starts the capture of every enabled camera. Raises CrowError when the registry cannot be read."""
        self.reconcile()

    def reconcile(self) -> None:
        """Follows the registry. Cheap when nothing changed: call it once a second.

        Raises CrowError when the registry cannot be read; then everything goes on as it was.
        """
        self._mark_finished()
        version = self._registry.version()
        if version == self._version and not self._leaving:
            return
        cameras = {camera.id: camera for camera in self._registry.cameras()}
        self._book.follow([camera for camera in cameras.values() if camera.wanted], Moment.now(self._clock))
        for camera_id, runner in list(self._runners.items()):
            camera = cameras.get(camera_id)
            if camera is None or not camera.wanted or camera.revision != runner.camera.revision:
                self._retire(camera_id, runner)
        with self._lock:
            self._leaving = {key: runner for key, runner in self._leaving.items() if not runner.join(0)}
            self._idle = {key: self._idle_state(camera) for key, camera in cameras.items() if not camera.wanted}
        for camera in cameras.values():
            if camera.wanted and camera.id not in self._runners and camera.id not in self._leaving:
                self._launch(camera)
        self._version = version

    def states(self) -> list[CameraSnapshot]:
        """Every camera of the registry as it is now, by id."""
        with self._lock:
            running = {**self._leaving, **self._runners}
            idle = dict(self._idle)
        found = idle | {camera_id: runner.snapshot() for camera_id, runner in running.items()}
        return [found[camera_id] for camera_id in sorted(found)]

    def follow_pace(self, asked_ms: Mapping[str, int]) -> None:
        """Samples these cameras only so often, by camera id; all others at their own interval."""
        with self._lock:
            self._paces = dict(asked_ms)
            for camera_id, runner in self._runners.items():
                runner.follow_pace(self._paces.get(camera_id, 0))

    def stop(self, deadline_s: float) -> None:
        """Stops all captures and waits for their threads until the deadline.

        A thread that hangs in a read ends within the read's time-out. The sample that a thread has in hand is still
        offered.
        """
        runners = [*self._runners.values(), *self._leaving.values()]
        for runner in runners:
            runner.stop()
        ends_s = self._clock.monotonic_s() + deadline_s
        ended = [runner.join(max(0.0, ends_s - self._clock.monotonic_s())) for runner in runners]
        self._mark_finished()
        if not all(ended):
            log.warning("captures still running at the deadline", captures=ended.count(False), deadline_s=deadline_s)

    def _launch(self, camera: Camera) -> None:
        credentials = self._registry.credentials(camera.id)
        account = self._book.account(camera, Moment.now(self._clock))
        monitor = CameraMonitor(camera.id, account, self._clock)
        memory = StreamMemory(camera)

        def open_source() -> Source:
            after_us = self._last_capture_us(camera.id)
            return self._source_of(camera, credentials, self._clock, memory, after_us)

        runner = CameraRunner(camera, open_source, self._sink, monitor, self._clock)
        with self._lock:
            runner.follow_pace(self._paces.get(camera.id, 0))
            self._runners[camera.id] = runner
        runner.start()

    def _retire(self, camera_id: str, runner: CameraRunner) -> None:
        runner.stop()
        last = runner.snapshot()
        with self._lock:
            if last.state is CameraState.FINISHED:
                self._idle[camera_id] = last  # its counts are still of interest
            self._leaving[camera_id] = self._runners.pop(camera_id)

    def _mark_finished(self) -> None:
        for runner in self._runners.values():
            if runner.snapshot().state is CameraState.FINISHED and not runner.camera.finished:
                self._registry.mark_finished(runner.camera.id, runner.camera.revision)

    def _idle_state(self, camera: Camera) -> CameraSnapshot:
        state = CameraState.FINISHED if camera.enabled else CameraState.DISABLED
        before = self._idle.get(camera.id)
        return before if before and before.state is state else CameraSnapshot(camera.id, state, self._clock.now_us())
