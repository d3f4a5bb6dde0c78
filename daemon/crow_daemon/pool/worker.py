"""One worker from its start to its end, with the cameras that it reads.

Invariants
1. What it says changes only its own cameras, after it was checked (`hearing`).
2. A frame that it took against its credit goes to the spool's line, and is its sample's outcome.
3. A camera that it was told to stop stays its own until it says that the thread ends.
4. Its end is told once, by what `run` returns. Until then nobody else may start its cameras.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crow.capture.v1 import worker_pb2 as pb
from crow_daemon.capture.outcome import SENT, Dropped
from crow_daemon.capture.state import CameraMonitor
from crow_daemon.detect.config import DetectorConfig
from crow_daemon.pool.hearing import check_shape, checked_frame, hear, may_be, words
from crow_daemon.pool.placement import SETTLED_S, Group, Loss, LossReason
from crow_daemon.pool.process import PROGRAM, WorkerProcess, said_of
from crow_daemon.pool.window import Line, Window
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.secret import Credentials
from crow_daemon.worker.wire.camera import start_order
from crow_daemon.worker.wire.configuration import configure_order
from crow_daemon.worker.wire.framing import violation
from crow_shared.clock import Clock, Moment
from crow_shared.errors import CrowError

SILENT_S = 2.0  # without a report, of which one comes each second, and idle: it hangs
BUSY_SILENT_S = 10.0  # the same of one that would run if the machine let it
_BURST = 2  # times the memory that it may keep, a worker may ask for; more is refused at once
MAX_UNREAD_BYTES = 32 << 20  # of orders: some hundred bytes each, and at the start all cameras with their outlines
START_S = 30.0  # until its first report
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every worker: how it logs, what memory it may keep, how it finds people, which program it is."""

    log_level: str
    memory_bytes: int
    detector: DetectorConfig | None = None
    program: Sequence[str] = PROGRAM


@dataclass(slots=True)
class Post:
    """A camera in a worker. `leaving`: it was told to stop."""

    camera: Camera
    credentials: Credentials | None
    monitor: CameraMonitor
    leaving: bool = False


class Worker:
    """One process and its cameras. Used by the event loop alone."""

    def __init__(self, group: Group, terms: Terms, line: Line, clock: Clock, left: Callable[[Post], None]) -> None:
        """Not started yet. `left` is told of each camera that has stopped and belongs to nobody now."""
        self.group = group
        self.posts: dict[str, Post] = {}
        self.closing = False
        self.memory_bytes = 0
        self.started_us: int | None = None
        self._terms = terms
        self._line = line
        self._clock = clock
        self._left = left
        self._window = Window(line)
        self._process: WorkerProcess | None = None
        self._verdict: Loss | None = None
        self._ending = asyncio.Event()
        self._workers = 1
        self._heard = False
        self._began_s = self._silent_from_s = clock.monotonic_s()

    @property
    def pid(self) -> int | None:
        """The process id; None before it is started."""
        return None if self._process is None else self._process.pid

    def has_room_for(self, camera: Camera, cameras_per_worker: int) -> bool:
        """Whether one more may join. The files that a process may open are told when it starts, for good."""
        is_open = not isinstance(camera.source, Recording) or self._process is None
        return is_open and not self.closing and self.group.has_room(cameras_per_worker)

    def add(self, post: Post) -> None:
        """Reads this camera from now on."""
        self.posts[post.camera.id] = post
        self.group.cameras.add(post.camera.id)
        if self._process is not None:
            self._start(self._process, post)

    def remove(self, camera_id: str) -> None:
        """Stops reading this camera."""
        post = self.posts[camera_id]
        if self._process is None:
            self.let_go(post)
        elif not post.leaving:
            post.leaving = True
            self._process.order(pb.Order(stop_camera=pb.StopCamera(camera_id=camera_id)))

    def let_go(self, post: Post) -> None:
        """The camera's thread has ended, or its process has."""
        del self.posts[post.camera.id]
        self.group.cameras.discard(post.camera.id)
        post.monitor.stopped()
        self._left(post)

    def follow_pace(self, camera_id: str, asked_interval_ms: int) -> None:
        """Lets only the camera's samples of a longer interval through; 0: all."""
        self.posts[camera_id].monitor.asked_interval_ms = asked_interval_ms
        if self._process is not None:
            self._process.order(_pace(camera_id, asked_interval_ms))

    def close(self) -> None:
        """Ends it in order: what it has in hand is handed over. `run` returns None then."""
        self.closing = True
        self._ending.set()
        if self._process is not None:
            self._process.order(pb.Order(stop=pb.Stop()))

    def kill(self, because: Loss) -> None:
        """Ends it at once."""
        self._verdict = self._verdict or because
        if self._process is not None:
            self._process.kill()

    async def run(self) -> Loss | None:
        """Its whole life; None when it ended as it was told to."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.group.wait_s):
                await self._ending.wait()
        if self.closing:
            return None
        try:
            process = await WorkerProcess.spawn(self._terms.program)
        except CrowError as error:
            return Loss(LossReason.CRASHED, f"does not start: {error.message}", from_outside=True)
        try:
            self._begin(process)
            await self._listen(process)
        except BaseException:
            process.kill()
            raise
        finally:
            code = await process.ended()
        if self._ending.is_set():
            return None
        return self._verdict or Loss(LossReason.CRASHED, said_of(code), from_outside=-code in _FROM_OUTSIDE)

    def watch(self, workers: int, *, attentive: bool) -> None:
        """To be called once a second: kills it when it hangs or takes too much memory, its own or the daemon's.

        `attentive`: all that it said so far has been heard. `workers` is how many share the memory of the line.
        """
        self._workers, process = workers, self._process
        if process is None:
            return
        self.memory_bytes = process.memory_bytes()
        if self._clock.monotonic_s() - self._began_s > SETTLED_S:
            self.group.strikes = 0
        if self.memory_bytes > self._terms.memory_bytes:
            self.kill(Loss(LossReason.MEMORY, f"took {self.memory_bytes >> 20} MB of memory"))
        elif attentive and self._is_hung(process):
            self.kill(Loss(LossReason.HUNG, "said nothing any more"))
        elif process.unread_bytes > MAX_UNREAD_BYTES:
            self.kill(Loss(LossReason.HUNG, "did not read what it was told"))
        self._give_credit(process)

    def as_json(self) -> dict[str, Any]:
        """What operators are shown; docs/OPERATIONS.md has the fields."""
        return {
            "pid": self.pid,
            "started_us": self.started_us,
            "cameras": sorted(self.posts),
            "memory_bytes": self.memory_bytes,
            "losses": dict(self.group.losses),
        }

    @property
    def last_words(self) -> list[str]:
        """The last lines that were no log events of ours."""
        return [] if self._process is None else self._process.relay.last_lines

    def _begin(self, process: WorkerProcess) -> None:
        self._process = process
        self.started_us = self._clock.now_us()
        self._began_s = self._silent_from_s = self._clock.monotonic_s()
        terms = self._terms
        sources = [post.camera.source for post in self.posts.values()]
        recordings = [source.path for source in sources if isinstance(source, Recording)]
        process.order(configure_order(terms.log_level, _BURST * terms.memory_bytes, terms.detector, recordings))
        self._give_credit(process)
        for post in self.posts.values():
            self._start(process, post)
        if self.closing:
            self.close()
        if self._verdict is not None:
            process.kill()

    def _start(self, process: WorkerProcess, post: Post) -> None:
        process.relay.hide(post.credentials)
        last_capture_us = self._line.last_capture_us(post.camera.id)
        process.order(start_order(post.camera, post.credentials, last_capture_us, post.monitor.await_login()))
        if post.monitor.asked_interval_ms:
            process.order(_pace(post.camera.id, post.monitor.asked_interval_ms))

    async def _listen(self, process: WorkerProcess) -> None:
        """Until it is gone, or says what it must not."""
        try:
            while (heard := await process.report()) is not None:
                self._heard = True
                self._silent_from_s = self._clock.monotonic_s()
                self._hear(*heard)
                self._give_credit(process)
        except CrowError as error:
            self.kill(Loss(LossReason.CRASHED, error.message))

    def _hear(self, report: pb.Report, pictures: Sequence[bytes]) -> None:
        """Takes over what has happened. Raises CrowError(CORRUPT)."""
        check_shape(report)
        now = Moment.now(self._clock)
        for event in report.events:
            post = self._post(event.camera_id)
            hear(event, post.camera, post.monitor, now)
        for message, picture in zip(report.frames, pictures, strict=True):
            self._window.take(len(picture))
            post = self._post(message.camera_id)
            frame = checked_frame(message, picture, post.camera)
            if may_be(frame.capture_us, post.camera, now) and not post.monitor.is_there(frame.capture_us):
                taken = self._line.offer(frame)
                post.monitor.outcome(frame.capture_us, SENT if taken else Dropped.STOPPED)
        for event in report.events:
            if event.HasField("stopped"):  # its last frames are in the same report
                self.let_go(self._post(event.camera_id))
        for overdue in report.overdue:
            camera_id = self._post(overdue.camera_id).camera.id
            doing = f"hung at {words(overdue.phase, 20)} {camera_id} for {overdue.lasts_s:.0f} s"
            self.kill(Loss(LossReason.HUNG, doing, culprit=camera_id))

    def _post(self, camera_id: str) -> Post:
        if camera_id not in self.posts:
            raise violation("word of a camera that it does not read")
        return self.posts[camera_id]

    def _give_credit(self, process: WorkerProcess) -> None:
        if (credit := self._window.credit(self._workers)) is not None:
            process.order(pb.Order(credit=credit))

    def _is_hung(self, process: WorkerProcess) -> bool:
        silent_s = self._clock.monotonic_s() - self._silent_from_s
        if not self._heard:
            return silent_s > START_S
        return silent_s > BUSY_SILENT_S or (silent_s > SILENT_S and not process.is_busy())


def _pace(camera_id: str, asked_interval_ms: int) -> pb.Order:
    return pb.Order(pace=pb.Pace(camera_id=camera_id, asked_interval_ms=asked_interval_ms))
