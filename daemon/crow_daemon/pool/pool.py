"""Keeps every camera that is wanted in a worker, as the registry says.

Invariants
1. Every enabled, unfinished camera is in one worker, at its present revision, or is about to be: it waits for its old
   thread's end, or for the worker that takes the place of a lost one.
2. A camera is read by one worker at a time, by one thread. Those that did not change are not touched.
3. A camera is sampled at the pace that was asked of it last, from its start on.
4. A recording that was read to its end is marked in the registry once its frames and its ledger are on disk, so that it
   is not read again after a restart. One that was interrupted goes on where its account says.
5. Exactly the enabled, unfinished cameras are expected to give samples, from `reconcile` on. Where one camera alone is
   to be read, the samples of the others are missed as they are while no daemon runs.

Used by the event loop alone; the registry by one thread at a time.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from crow_daemon.capture.outcome import Missed
from crow_daemon.capture.state import CameraMonitor, CameraSnapshot, CameraState
from crow_daemon.ledger.book import Book
from crow_daemon.pool.placement import Group, Loss, LossReason, after, passes_on
from crow_daemon.pool.window import Line
from crow_daemon.pool.worker import Post, Terms, Worker
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials
from crow_daemon.worker.confinement import landlock_version
from crow_shared.clock import Clock, Moment
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

WATCH_S = 1.0
_LATE_S = 0.5  # a watch that comes so late may find words of workers that nobody has heard yet


@dataclass(frozen=True, slots=True)
class _Read:
    """What the registry said: cameras by id, and the logins of those that are wanted."""

    version: int
    cameras: Mapping[str, Camera]
    credentials: Mapping[str, Credentials | None]


class CapturePool:
    """All cameras of one daemon."""

    def __init__(
        self,
        registry: Registry,
        line: Line,
        book: Book,
        clock: Clock,
        terms: Terms,
        cameras_per_worker: int,
        only: str | None = None,
    ) -> None:
        """Nothing runs before `start`; frames go to `line`, and `book` learns of every sample.

        With `only`, no other camera than that one is read.
        """
        self._registry = registry
        self._line = line
        self._book = book
        self._clock = clock
        self._terms = terms
        self._cameras_per_worker = cameras_per_worker
        self._only = only
        self._known = _Read(-1, {}, {})
        self._workers: list[Worker] = []
        self._lives: set[asyncio.Task[None]] = set()
        self._homes: dict[str, Worker] = {}  # by camera
        self._idle: dict[str, CameraSnapshot] = {}  # of cameras that are in no worker
        self._finished: dict[str, Camera] = {}  # recordings that were read to their end
        self._losses: dict[str, Counter[LossReason]] = {}  # by camera
        self._paces: Mapping[str, int] = {}
        self._stopping = False

    async def start(self) -> None:
        """Starts the capture of every enabled camera. Raises CrowError when the registry cannot be read."""
        if not landlock_version():
            log.warning("capture workers can read the files of this user: the kernel has no Landlock")
        await self.reconcile()

    async def reconcile(self) -> None:
        """Follows the registry. Cheap when nothing changed: call it once a second.

        Raises CrowError when the registry cannot be read; then everything goes on as it was.
        """
        if self._registry.version() == self._known.version and not self._to_be_marked():
            return
        read = await asyncio.to_thread(self._read_registry, self._to_be_marked())
        if not self._stopping:
            self._follow(read)

    async def watch(self) -> None:
        """Looks after the workers, for ever."""
        while True:
            due_s = self._clock.monotonic_s() + WATCH_S
            await asyncio.sleep(WATCH_S)
            attentive = self._clock.monotonic_s() - due_s < _LATE_S
            for worker in list(self._workers):
                worker.watch(len(self._workers), attentive=attentive)
                if not worker.posts and not worker.closing:
                    worker.close()

    def states(self) -> list[CameraSnapshot]:
        """Every camera of the registry as it is now, by id."""
        found = dict(self._idle)
        for camera_id, worker in self._homes.items():
            snapshot = worker.posts[camera_id].monitor.snapshot()
            losses = {str(reason): times for reason, times in self._losses.get(camera_id, Counter()).items()}
            found[camera_id] = replace(snapshot, worker_pid=worker.pid, worker_losses=losses)
        return [found[camera_id] for camera_id in sorted(found)]

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now; docs/OPERATIONS.md has the fields."""
        return [worker.as_json() for worker in self._workers]

    def follow_pace(self, asked_ms: Mapping[str, int]) -> None:
        """Samples these cameras only so often, by camera id; all others at their own interval."""
        before, self._paces = self._paces, dict(asked_ms)
        for camera_id, worker in self._homes.items():
            asked = self._paces.get(camera_id, 0)
            is_live = not isinstance(worker.posts[camera_id].camera.source, Recording)
            if is_live and asked != before.get(camera_id, 0):
                worker.follow_pace(camera_id, asked)

    async def stop(self, deadline_s: float) -> None:
        """Ends all workers; what they have in hand is taken over, until the deadline."""
        self._stopping = True
        for worker in self._workers:
            worker.close()
        if self._lives:
            _, late = await asyncio.wait(self._lives, timeout=deadline_s)
            if late:
                log.warning("capture workers are killed at the deadline", workers=len(late), deadline_s=deadline_s)
                for worker in self._workers:
                    worker.kill(Loss(LossReason.HUNG, "did not stop"))
                await asyncio.wait(self._lives)
        try:
            await asyncio.to_thread(self._read_registry, self._to_be_marked())
        except CrowError as error:
            log.warning("recordings that ended cannot be marked; they will be read again", error=error.message)

    def _to_be_marked(self) -> list[Camera]:
        """Recordings that ended, with all that became of them on disk: they need not be read again."""
        return [camera for camera in self._finished.values() if self._book.is_written(camera.id)]

    def _read_registry(self, finished: list[Camera]) -> _Read:
        """Marks recordings as finished; returns what the registry says."""
        for recording in finished:
            self._registry.mark_finished(recording.id, recording.revision)
        version = self._registry.version()  # read first: what changes after it is read again
        cameras = {camera.id: camera for camera in self._registry.cameras()}
        credentials = {key: self._registry.credentials(key) for key, camera in cameras.items() if camera.wanted}
        return _Read(version, cameras, credentials)

    def _follow(self, read: _Read) -> None:
        self._known = read
        cameras = read.cameras
        now = Moment.now(self._clock)
        self._book.follow([camera for camera in cameras.values() if camera.wanted], now)
        for camera in cameras.values():
            if camera.wanted and not self._is_ours(camera):
                self._book.account(camera, now).no_stream(Missed.DAEMON_DOWN, now)
        self._finished = {key: old for key, old in self._finished.items() if cameras.get(key) == old}
        for camera_id, worker in list(self._homes.items()):
            if not self._is_wanted(worker.posts[camera_id].camera):
                worker.remove(camera_id)
        unread = [camera for camera in cameras.values() if not self._is_wanted(camera)]
        self._idle = {camera.id: self._idle_state(camera) for camera in unread if camera.id not in self._homes}
        for camera in cameras.values():
            self._place(camera)

    def _is_wanted(self, camera: Camera) -> bool:
        """Whether the camera is to be read, as it is here."""
        known = self._known.cameras.get(camera.id)
        is_present = known is not None and known.wanted and known.revision == camera.revision
        return is_present and camera.id not in self._finished and self._is_ours(camera)

    def _is_ours(self, camera: Camera) -> bool:
        return self._only in (None, camera.id)

    def _place(self, camera: Camera) -> None:
        """Finds a worker for a camera that is wanted and has none."""
        if self._stopping or camera.id in self._homes or not self._is_wanted(camera):
            return
        account = self._book.account(camera, Moment.now(self._clock))
        monitor = CameraMonitor(camera.id, account, self._clock)
        post = Post(camera, self._known.credentials[camera.id], monitor)
        self._idle.pop(camera.id, None)
        alike = passes_on(camera)
        for worker in self._workers:
            if worker.group.passes_on == alike and worker.has_room_for(camera, self._cameras_per_worker):
                self._settle(worker, post)
                return
        self._launch(Group(alike), [post])

    def _launch(self, group: Group, posts: Iterable[Post]) -> None:
        worker = Worker(group, self._terms, self._line, self._clock, self._left)
        for post in posts:
            self._settle(worker, post)
        self._workers.append(worker)
        life = asyncio.create_task(self._live(worker), name="capture worker")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    def _settle(self, worker: Worker, post: Post) -> None:
        self._homes[post.camera.id] = worker
        if not isinstance(post.camera.source, Recording):
            post.monitor.asked_interval_ms = self._paces.get(post.camera.id, 0)
        worker.add(post)

    async def _live(self, worker: Worker) -> None:
        try:
            loss = await worker.run()
        except Exception:  # a defect met by one worker costs no other its cameras
            log.exception("capture worker is lost by a defect", worker=worker.pid)
            loss = Loss(LossReason.CRASHED, "met a defect of the daemon's")  # maybe by what one of its cameras said
        self._workers.remove(worker)
        if loss is not None and not self._stopping:
            self._replace(worker, loss)
        else:
            for post in list(worker.posts.values()):
                worker.let_go(post)

    def _replace(self, worker: Worker, loss: Loss) -> None:
        """Starts what takes the place of a lost worker."""
        log.error(
            "capture worker is lost",
            worker=worker.pid,
            reason=loss.reason,
            detail=loss.detail,
            cameras=sorted(worker.posts),
            last_words=worker.last_words,
        )
        error = CrowError(Kind.UNAVAILABLE, loss.reason, f"the process that read it {loss.detail}")
        for post in list(worker.posts.values()):
            if post.leaving:
                worker.let_go(post)
            else:
                post.monitor.failed(error)
                self._losses.setdefault(post.camera.id, Counter())[loss.reason] += 1
        for group in after(loss, worker.group, worker.posts):
            self._launch(group, [worker.posts[camera_id] for camera_id in sorted(group.cameras)])

    def _left(self, post: Post) -> None:
        """A camera is in no worker any more."""
        camera_id = post.camera.id
        del self._homes[camera_id]
        last = post.monitor.snapshot()
        if last.state is CameraState.FINISHED:
            self._finished[camera_id] = post.camera
        known = self._known.cameras.get(camera_id)
        if self._stopping or last.state is CameraState.FINISHED:
            self._idle[camera_id] = last  # its counts are still of interest
        elif known is not None and not known.wanted:
            self._idle[camera_id] = self._idle_state(known)
        elif known is not None:
            self._place(known)

    def _idle_state(self, camera: Camera) -> CameraSnapshot:
        state = CameraState.FINISHED if camera.enabled else CameraState.DISABLED
        if camera.wanted and not self._is_ours(camera):
            state = CameraState.STOPPED  # another camera alone is read
        before = self._idle.get(camera.id)
        return before if before and before.state is state else CameraSnapshot(camera.id, state, self._clock.now_us())
