"""Prometheus gauges that are read from the receiver's state every few seconds. docs/OPERATIONS.md lists all metrics."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from crow_receiver.store import ledger
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.frames import BacklogRow, analysis_backlog, failed_frames
from crow_receiver.store.ledger import LedgerSums
from crow_receiver.store.store import Store
from crow_receiver.vision.engine_watch import Engines
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

EVERY_S = 5.0


class Daemons(Protocol):
    """Who knows the open streams."""

    @property
    def connected_daemons(self) -> int:
        """Streams that are open now."""
        ...


class OpenSessions(Protocol):
    """Who knows the open sessions."""

    @property
    def open_sessions(self) -> int:
        """Sessions that are open now."""
        ...


class Metrics:
    """What an operator watches: who is connected, what waits, how far behind each camera is."""

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        clock: Clock,
        daemons: Daemons,
        sessions: OpenSessions,
        engines: Engines,
    ) -> None:
        self._store = store
        self._clock = clock
        self._engines = engines
        self._engine = Gauge(
            "crow_receiver_engine_serves", "1: the engine serves, 0: it is down", ["engine"], registry=registry
        )
        Gauge("crow_receiver_connected_daemons", "Open streams", registry=registry).set_function(
            lambda: daemons.connected_daemons
        )
        Gauge("crow_receiver_open_sessions", "Open sessions", registry=registry).set_function(
            lambda: sessions.open_sessions
        )
        camera = ["organization", "site", "camera"]
        self._pending = Gauge(
            "crow_receiver_pending_frames", "Frames that wait for analysis", [*camera, "line"], registry=registry
        )
        self._behind = Gauge(
            "crow_receiver_seconds_behind", "For how long the oldest frame waits", [*camera, "line"], registry=registry
        )
        self._failed = Gauge("crow_receiver_failed_frames", "Frames given up with a reason", camera, registry=registry)
        self._expected = Gauge(
            "crow_receiver_expected_samples", "Samples that were due in the last hour", camera, registry=registry
        )
        self._samples = Gauge(
            "crow_receiver_samples",
            "What became of the samples of the last hour: sent, gated or dropped, with the reason",
            [*camera, "end", "reason"],
            registry=registry,
        )

    async def run(self) -> None:
        """Renews the gauges until cancelled."""
        while True:
            for engine in self._engines.states:
                self._engine.labels(engine.name).set(engine.trouble is None)
            try:
                rows = await self._store.read(analysis_backlog)
                failed = await self._store.read(failed_frames)
                hours = await self._store.read(lambda db: ledger.last_hour(db, self._clock.now_us()))
            except CrowError as error:
                log.warning("metrics could not be read", error=error.message)
            else:
                now_us = self._clock.now_us()
                for row in rows:
                    self._show(row, now_us)
                for key, frames in failed:
                    self._failed.labels(key.organization_id, key.site_id, key.camera_id).set(frames)
                self._show_samples(hours)
            await asyncio.sleep(EVERY_S)

    def _show_samples(self, hours: Sequence[tuple[CameraRow, LedgerSums]]) -> None:
        self._samples.clear()  # reasons of which the last hour has none any more
        for row, hour in hours:
            camera = (row.key.organization_id, row.key.site_id, row.key.camera_id)
            self._expected.labels(*camera).set(hour.expected)
            self._samples.labels(*camera, "sent", "").set(hour.sent)
            for end, by_reason in (("gated", hour.gated), ("dropped", hour.dropped)):
                for reason, samples in by_reason.items():
                    self._samples.labels(*camera, end, reason).set(samples)

    def _show(self, row: BacklogRow, now_us: int) -> None:
        key = row.camera.key
        camera = (key.organization_id, key.site_id, key.camera_id)
        self._pending.labels(*camera, "now").set(row.waiting)
        self._behind.labels(*camera, "now").set(row.behind_s(now_us))
        self._pending.labels(*camera, "late").set(row.late_waiting)
        self._behind.labels(*camera, "late").set(row.late_behind_s(now_us))
