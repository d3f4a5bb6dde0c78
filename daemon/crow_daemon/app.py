"""The composition root: builds the daemon, runs it, stops it in order.

Cameras → (capture workers) → SpoolThread → Uplink → receiver; the SampleLedger hears of every sample on its way. On a
stop the cameras end first, then what they brought is spooled, then the uplink gets a moment to send it on; what it
cannot send waits in the spool.
"""

import asyncio
import os
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import structlog

from crow_daemon import status
from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.pool.pool import CapturePool
from crow_daemon.pool.worker import Terms
from crow_daemon.registry.registry import Registry
from crow_daemon.settings import DaemonSettings
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.client import Uplink
from crow_daemon.uplink.protocol import Announced, Identity
from crow_shared.clock import Clock, SystemClock
from crow_shared.errors import CrowError
from crow_shared.lifecycle import Notifier, Tasks, finished, stop_on_signals, within

log = structlog.get_logger()

EVERY_S = 1.0
STATUS_EVERY_S = 2.0
LET_GO_EVERY_S = 60.0
POLL_S = 0.1


class Daemon:
    """All parts of one daemon."""

    def __init__(
        self, settings: DaemonSettings, notifier: Notifier, clock: Clock | None = None, *, only: str | None = None
    ) -> None:
        """With `only`, the id of a camera, no other one is read; all else is as ever."""
        self._settings = settings
        self._notifier = notifier
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._tasks = Tasks(self._stop)
        registry_path = settings.state_path / "cameras.db"
        self._registry = Registry(registry_path)
        self._ledger = SampleLedger(settings.state_path / "ledger.db", self._clock)
        self._spool = SpoolThread(
            lambda: Spool(settings.state_path / "spool", settings.spool.limits, self._clock), self._ledger.book.spooled
        )
        capture = settings.capture
        self._capture = CapturePool(
            Registry(registry_path),  # a connection of its own, since it works in another thread
            self._spool,
            self._ledger.book,
            self._clock,
            Terms(settings.log_level, capture.worker_memory_mb << 20, settings.detector.config),
            capture.cameras_per_worker,
            only,
        )
        self._uplink = Uplink(
            settings.uplink,
            self._identity,
            self._announced,
            self._spool,
            self._capture.follow_pace,
            self._ledger,
            self._clock,
        )
        self._status_trouble = ""
        self._started_us = self._clock.now_us()
        self._version = version("crow-daemon")  # looked up on disk

    async def run(self) -> bool:
        """Runs until a signal or a failed part asks for the end; whether all went well.

        Raises CrowError when the state directory cannot be used.
        """
        stop_on_signals(self._stop)
        await self._spool.start()
        wanted = [camera for camera in self._registry.cameras() if camera.wanted]
        await self._spool.call(lambda spool: self._ledger.begin(spool, wanted))
        self._tasks.start("ledger", self._write_ledger())
        writer = self._tasks.start("spool writer", self._spool.write_offered())
        uplink = self._tasks.start("uplink", self._uplink.run())
        reporter = self._tasks.start("status", self._report())
        self._tasks.start("watchdog", self._notifier.feed_watchdog())
        await self._capture.start()
        self._tasks.start("capture watch", self._capture.watch())
        log.info("daemon ready", site=self._settings.site_id, daemon=self._settings.daemon_id)
        self._notifier.send("READY=1")
        await self._stop.wait()
        await self._stop_in_order(reporter, writer, uplink)
        return not self._tasks.failed

    async def all_told(self) -> None:
        """Returns when the receiver has the sample ledger as it is now."""
        # Polling, since what is waited for is the state of the disk.
        while await asyncio.to_thread(self._ledger.untold, 1):
            self._uplink.tell_ledger()
            await asyncio.sleep(POLL_S)

    def stop(self) -> None:
        """Asks for the orderly end that a signal asks for."""
        self._stop.set()

    async def _stop_in_order(
        self, reporter: "asyncio.Task[None]", writer: "asyncio.Task[None]", uplink: "asyncio.Task[None]"
    ) -> None:
        self._notifier.send("STOPPING=1")
        step_s = self._settings.stop_deadline_s / 4  # all steps together stay within the deadline
        await within(step_s, "status", lambda: finished(reporter))  # it starts cameras: none after this
        await within(step_s, "capture", lambda: self._capture.stop(0.8 * step_s))
        self._spool.finish()
        await within(step_s, "spool", lambda: finished(writer))
        if self._spool.waiting:
            log.error("frames are lost: the disk did not take them", frames=self._spool.waiting)
        await asyncio.to_thread(self._ledger.finish)
        self._uplink.tell_ledger()
        if not uplink.done() and self._uplink.state == "connected":
            await within(step_s, "uplink", self._all_sent)
        await self._write_status()
        await self._tasks.cancel()
        await self._spool.close()
        await asyncio.to_thread(self._ledger.close)
        log.info("daemon stopped")

    async def _all_sent(self) -> None:
        """What the cameras saw last is delivered and accounted for; a backlog goes on with the next start."""

        def waits(spool: Spool) -> bool:
            return bool(spool.waiting(spool.epochs()[-1]))

        # Polling, since what is waited for is the state of the disk.
        while self._uplink.state == "connected" and (  # noqa: ASYNC110
            await self._spool.call(waits) or bool(await asyncio.to_thread(self._ledger.untold, 1))
        ):
            await asyncio.sleep(POLL_S)

    async def _report(self) -> None:
        """Renews the status file and follows the registry."""
        announced = self._registry.version()
        written_s = let_go_s = float("-inf")
        while not self._stop.is_set():
            try:
                await self._capture.reconcile()
                version_now = self._registry.version()
            except CrowError as error:
                log.warning("the camera registry cannot be read; cameras go on as they are", error=error.message)
            else:
                if version_now != announced:
                    announced = version_now
                    await asyncio.to_thread(self._ledger.flush)  # a recording's beginning, before its first frame
                    self._uplink.reannounce()
            now_s = self._clock.monotonic_s()
            if now_s - let_go_s >= LET_GO_EVERY_S:
                let_go_s = now_s
                await self._spool.let_go_aged()
            if now_s - written_s >= STATUS_EVERY_S:
                written_s = now_s
                await self._write_status()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._stop.wait()

    async def _write_ledger(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await asyncio.to_thread(self._ledger.flush)

    async def _write_status(self) -> None:
        try:
            status.write(self._settings.state_path, await self._status())
            self._status_trouble = ""
        except (OSError, CrowError) as error:
            if str(error) != self._status_trouble:  # it is written again and again
                log.warning("status file cannot be written", error=str(error))
            self._status_trouble = str(error)

    async def _status(self) -> dict[str, Any]:
        """See docs/OPERATIONS.md for the fields."""
        pending, lost, stored, totals = await self._spool.call(
            lambda spool: (spool.waiting(), spool.lost(), spool.stored_bytes, spool.totals())
        )
        acked = {mark.camera_id: mark for mark in totals}
        backlog = await self._uplink.backlog()
        cameras = []
        for snapshot in self._capture.states():
            mark = acked.get(snapshot.camera_id)
            spool = {
                "spooled": mark.last_seq if mark else 0,
                "acknowledged": mark.acked_seq if mark else 0,
                "waiting": pending.get(snapshot.camera_id, 0),
                "lost": {row.reason: row.frames for row in lost if row.camera_id == snapshot.camera_id},
            }
            cameras.append(snapshot.as_json() | {"spool": spool})
        return {
            "written_us": self._clock.now_us(),
            "started_us": self._started_us,
            "pid": os.getpid(),
            "version": self._version,
            "organization_id": self._settings.organization_id,
            "site_id": self._settings.site_id,
            "daemon_id": self._settings.daemon_id,
            "uplink": {
                "receiver": self._settings.uplink.receiver,
                "state": self._uplink.state,
                "last_error": self._uplink.last_error,
                "last_error_code": self._uplink.last_error_code,
                "window_frames": self._uplink.window_frames,
                "backlog": backlog.as_json() if backlog else None,
            },
            "spool": {
                "waiting": sum(pending.values()),
                "in_memory": self._spool.waiting,
                "bytes": stored,
                "max_bytes": self._settings.spool.max_bytes,
                "trouble": self._spool.trouble,
            },
            "ledger": await asyncio.to_thread(self._ledger.status),
            "workers": self._capture.workers(),
            "cameras": cameras,
        }

    def _identity(self, epoch: str) -> Identity:
        settings = self._settings
        return Identity(settings.organization_id, settings.site_id, settings.daemon_id, epoch, self._version)

    def _announced(self) -> list[Announced]:
        return [
            Announced(camera.id, camera.name, camera.sample_interval_ms, idle=not camera.wanted, zones=camera.zones)
            for camera in self._registry.cameras()
        ]
