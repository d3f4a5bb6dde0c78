"""The task that looks at what waits for analysis, every second, and does what the rules say.

Invariants
1. A frame that is shed ends in its session as any other failure does, with the reason; not one that an engine is at.
2. Nothing waits in memory: frames lie in the database, and `SHED_AT_ONCE` of those to shed are read at a time.
"""

import asyncio
import collections
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from crow_receiver.overload.rules import CameraPace, Room, SteadyTime
from crow_receiver.session.records import Outcome
from crow_receiver.settings import OverloadSettings
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.frames import BacklogRow, PendingFrame, analysis_backlog, waiting_since
from crow_receiver.store.store import Store
from crow_shared.clock import Clock
from crow_shared.errors import CrowError
from crow_shared.identity import CameraKey

log = structlog.get_logger()

EVERY_S = 1.0
SHED_AT_ONCE = 64
TELL_EVERY_S = 60.0


class Daemons(Protocol):
    """Those who can be asked for less."""

    def pace(self, camera: CameraKey, sample_interval_ms: int) -> bool:
        """Asks for samples so far apart, 0: as configured; whether somebody is there to ask."""
        ...

    def set_room(self, live_frames: int, backlog_frames: int) -> None:
        """Lets each stream of a lane have so many frames under way."""
        ...


class Sessions(Protocol):
    """Those who record outcomes."""

    async def finished(self, camera: int, session_id: str, outcome: Outcome) -> None:
        """Records a frame's outcome. Raises CrowError when it could not be written."""
        ...


class Analysis(Protocol):
    """Who knows what is being analysed."""

    @property
    def under_way(self) -> set[int]:
        """The frames that an engine is at, by row."""
        ...


class Overload:
    """Degrades, sheds and holds back."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        policy: OverloadSettings,
        window_frames: int,
        daemons: Daemons,
        sessions: Sessions,
        analysis: Analysis,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._window_frames = window_frames
        self._daemons = daemons
        self._sessions = sessions
        self._analysis = analysis
        self._paces: dict[int, CameraPace] = {}  # by camera
        self._asked_ms: dict[int, int] = {}  # by camera
        self._room = Room(policy.max_waiting_frames)
        self._steady = SteadyTime(clock.now_us(), clock.monotonic_s())
        self._shed_not_told: collections.Counter[CameraKey] = collections.Counter()
        self._told_s: float | None = None
        camera = ["organization", "site", "camera"]
        self._interval = Gauge(
            "crow_receiver_asked_interval_seconds", "Asked of a camera's daemon; 0: its own", camera, registry=registry
        )
        self._shed = Counter(
            "crow_receiver_shed_frames_total", "Frames that waited for too long", camera, registry=registry
        )
        self._open = Gauge("crow_receiver_lane_open", "1: daemons may send on it", ["lane"], registry=registry)
        self._show_room()

    @property
    def takes_frames(self) -> bool:
        """Whether there is room for further frames of now."""
        return self._room.live

    @property
    def obstacle(self) -> str | None:
        """Why no frames are taken, in plain words, if none are."""
        if self._room.live:
            return None
        return f"more than {self._policy.max_waiting_frames} frames wait for analysis: no more are taken"

    async def run(self) -> None:
        """Looks every second until cancelled."""
        while True:
            try:
                await self.run_once()
            except CrowError as error:
                log.warning("overload could not be judged; trying again", error=error.message)
            await asyncio.sleep(EVERY_S)

    async def run_once(self) -> None:
        """One look. Raises CrowError when the database cannot be read, or a frame to shed not be written."""
        rows = await self._store.read(analysis_backlog)
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        steady_s = self._steady.steady_s(now_us, now_s)
        self._hold_back(sum(row.waiting + row.late_waiting for row in rows))
        for row in rows:
            self._pace(row, now_s, min(row.behind_s(now_us), steady_s))
        if 0 < self._policy.shed_after_s <= steady_s:
            before_us = now_us - int(self._policy.shed_after_s * 1_000_000)
            for row in rows:
                if row.oldest_us is not None and row.oldest_us < before_us:
                    await self._shed_before(row.camera, before_us)
        if self._shed_not_told and (self._told_s is None or now_s - self._told_s >= TELL_EVERY_S):
            self._told_s = now_s
            log.warning("frames shed", **{str(key): frames for key, frames in self._shed_not_told.most_common(10)})
            self._shed_not_told.clear()

    def _hold_back(self, waiting: int) -> None:
        if not self._room.update(waiting):
            return
        live, backlog = (self._window_frames if lane else 0 for lane in (self._room.live, self._room.backlog))
        self._daemons.set_room(live, backlog)
        self._show_room()
        log.warning("room for frames changed", waiting=waiting, live=self._room.live, backlog=self._room.backlog)

    def _show_room(self) -> None:
        self._open.labels("live").set(self._room.live)
        self._open.labels("backlog").set(self._room.backlog)

    def _pace(self, row: BacklogRow, now_s: float, behind_s: float) -> None:
        camera = row.camera
        pace = self._paces.setdefault(camera.id, CameraPace(self._policy))
        interval_ms = pace.interval_ms(now_s, camera.sample_interval_ms, behind_s, row.waiting)
        if interval_ms == self._asked_ms.get(camera.id, 0):
            return
        self._asked_ms[camera.id] = interval_ms
        heard = self._daemons.pace(camera.key, interval_ms)
        self._interval.labels(*_labels(camera)).set(interval_ms / 1000)
        log.warning(
            "pace asked", camera=str(camera.key), interval_ms=interval_ms, behind_s=round(behind_s), daemon_there=heard
        )

    async def _shed_before(self, camera: CameraRow, before_us: int) -> None:
        while frames := await self._to_shed(camera, before_us):
            await asyncio.gather(*(self._fail(frame) for frame in frames))
            self._shed.labels(*_labels(camera)).inc(len(frames))
            self._shed_not_told[camera.key] += len(frames)

    async def _to_shed(self, camera: CameraRow, before_us: int) -> list[PendingFrame]:
        found = await self._store.read(lambda db: waiting_since(db, camera.id, before_us, SHED_AT_ONCE))
        return [frame for frame in found if frame.id not in self._analysis.under_way]

    async def _fail(self, frame: PendingFrame) -> None:
        reason = f"overload: waited for more than {self._policy.shed_after_s:g} s"
        await self._sessions.finished(frame.camera.id, frame.session_id, Outcome(frame, failure=reason))


def _labels(camera: CameraRow) -> tuple[str, str, str]:
    return (camera.key.organization_id, camera.key.site_id, camera.key.camera_id)
