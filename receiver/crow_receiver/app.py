"""The composition root: builds the receiver, runs it, stops it in order.

Daemons → IngestService → Store → IngestSession ⇄ AnalysisScheduler → Vision, and from the sessions: outbox → Dispatcher
→ queues.

On a stop the daemons are asked to hold back first, then what is under way is stored and acknowledged; analyses that are
not finished begin anew after the next start.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import structlog
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, Gauge

from crow.cctv.v1 import ingest_pb2, ingest_pb2_grpc
from crow_receiver.erasure import Eraser
from crow_receiver.ingest.grpc_service import IngestService
from crow_receiver.ingest.intake import Intake
from crow_receiver.ingest.room import DiskRoom
from crow_receiver.ingest.uploads import Uploads
from crow_receiver.metrics import Metrics
from crow_receiver.overload.overload import Overload
from crow_receiver.queue.dispatch import Dispatcher
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.metrics import QueueCollector
from crow_receiver.rest.app import create_app
from crow_receiver.retention import Retention
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import BatchLimits
from crow_receiver.settings import ReceiverSettings
from crow_receiver.store.outbox import StoredOutbox
from crow_receiver.store.store import Store
from crow_receiver.vision.assembly import assembled
from crow_receiver.vision.choose import choose_engines, tells_previous
from crow_receiver.vision.engine_watch import watch_engines
from crow_receiver.vision.schedule import AnalysisScheduler
from crow_shared.clock import Clock, SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_MESSAGE_BYTES
from crow_shared.lifecycle import Notifier, Tasks, finished, finished_before, stop_on_signals, within

log = structlog.get_logger()

SERVICE = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name

# Daemons ping every 10 s; gRPC's server would take that for abuse.
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 7_000),
    ("grpc.so_reuseport", 0),  # a second receiver on the same port is an error, not a silent half of the daemons
]


class Receiver:
    """All parts of one receiver."""

    def __init__(self, settings: ReceiverSettings, notifier: Notifier, clock: Clock | None = None) -> None:
        """Opens what is durable. Raises CrowError when it cannot be used. Needs a running event loop."""
        self._settings = settings
        self._notifier = notifier
        clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._last_messages = asyncio.Event()  # tells the dispatcher that no more will come
        self._tasks = Tasks(self._stop)
        registry = CollectorRegistry()
        self._store = Store(settings.state_path)
        self._queue = EmbeddedQueue(settings.state_path / "queue.db", clock)
        registry.register(QueueCollector(self._queue))
        self._dispatcher = Dispatcher(StoredOutbox(self._store), self._queue, clock, registry)
        choices = choose_engines(settings.vision, settings.models_path)
        for choice in choices:
            log.info(choice.reason, engine=choice.engine)
        self._vision = assembled(choices, settings.vision, clock)
        frames_waiting = asyncio.Event()
        self._directory = SessionDirectory(
            self._store,
            clock,
            BatchLimits(settings.batch.frames, settings.batch.age_s),
            settings.session.gap_s,
            wake_outbox=self._dispatcher.wake,
            wake_analysis=frames_waiting.set,
        )
        self._scheduler = AnalysisScheduler(
            self._store,
            self._vision,
            self._directory,
            clock,
            frames_waiting,
            tells_previous=tells_previous(settings.vision, choices),
        )
        self._room = DiskRoom(settings.state_path, settings.retention.min_free_bytes)
        Gauge("crow_receiver_free_bytes", "Free space of the state's file system", registry=registry).set_function(
            self._room.free_bytes
        )
        Gauge(
            "crow_receiver_near_duplicates",
            "Frames answered by the analysis of one that shows the same, since the start",
            registry=registry,
        ).set_function(lambda: self._vision.near_duplicates)
        intake = Intake(self._store, self._directory, clock, int(settings.session.gap_s * 1_000_000), self._room)
        self._ingest = IngestService(self._store, intake, clock, settings.grpc.window_frames)
        self._overload = Overload(
            self._store,
            clock,
            settings.overload,
            settings.grpc.window_frames,
            daemons=self._ingest,
            sessions=self._directory,
            analysis=self._scheduler,
            registry=registry,
        )
        self._retention = Retention(self._store, clock, settings.retention.pictures_h, settings.retention.records_h)
        self._eraser = Eraser(self._store, self._queue, clock, self._directory, self._dispatcher.publishing)
        self._metrics = Metrics(registry, self._store, clock, self._ingest, self._directory, self._vision)
        internal_key = settings.gateway.internal_key.get_secret_value() or None
        if internal_key is None:
            log.warning("no gateway key (INTERNAL_GATEWAY_KEY): the routes under /api answer 503")
        self._api = create_app(
            intake=Uploads(self._store, intake, self._directory, clock, self._overload),
            queue=self._queue,
            readiness=self,
            internal_key=internal_key,
            clock=clock,
            registry=registry,
            gateway_url=settings.gateway.url or None,
        )
        self._health = health.aio.HealthServicer()
        self._ready = False

    async def obstacles(self) -> Sequence[str]:
        """What keeps the receiver from its work, in plain words."""
        starting = None if self._ready else "starting or stopping"
        disk = f"the disk refuses: {self._store.trouble}" if self._store.trouble else None
        return [obstacle for obstacle in (starting, disk, self._room.shortage(), self._overload.obstacle) if obstacle]

    async def run(self) -> bool:
        """Runs until a signal or a failed part asks for the end; whether all went well.

        Raises CrowError when a part cannot start (a port that is taken, a model that does not load).
        """
        stop_on_signals(self._stop)
        try:
            if not await finished_before(self._stop, self._vision.start()):
                await self._close()
                return True
            await self._directory.resume()
            dispatching = self._tasks.start("dispatcher", self._dispatcher.run(self._last_messages))
            self._tasks.start("analysis", self._scheduler.run())
            self._tasks.start("overload", self._overload.run())
            self._tasks.start("retention", self._retention.run())
            self._tasks.start("erasure", self._eraser.run())
            self._tasks.start("metrics", self._metrics.run())
            self._tasks.start("engines", watch_engines(self._vision, self._store))
            self._tasks.start("watchdog", self._notifier.feed_watchdog())
            self._tasks.start("sessions", _raised(self._directory.failed))
            server, grpc_port = self._bound_grpc()
            web, serving, rest_port = self._serve_rest()
            await server.start()
            for service in ("", SERVICE):
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        except BaseException:
            await self._close()
            raise
        self._ready = True
        log.info("receiver ready", grpc_port=grpc_port, rest_port=rest_port, engine=self._vision.engine_name)
        self._notifier.send("READY=1")
        await self._stop.wait()
        await self._stop_in_order(server, web, serving, dispatching)
        return not self._tasks.failed

    def _bound_grpc(self) -> tuple[grpc.aio.Server, int]:
        """The server with its port, not yet serving: a daemon must not come in before all the rest is there."""
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self._ingest, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        settings = self._settings.grpc
        try:
            if settings.tls_certificate:
                pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes())
                port = server.add_secure_port(settings.listen, grpc.ssl_server_credentials([pair]))
            else:
                port = server.add_insecure_port(settings.listen)
        except (RuntimeError, OSError) as error:
            raise CrowError(Kind.UNAVAILABLE, "grpc_listen", f"cannot listen on {settings.listen}: {error}") from None
        return server, port

    def _serve_rest(self) -> "tuple[uvicorn.Server, asyncio.Task[None], int]":
        listening = _listening(self._settings.rest.listen)
        web = _Web(uvicorn.Config(self._api, log_config=None, access_log=False, lifespan="off"))
        serving = self._tasks.start("rest", web.serve(sockets=[listening]))
        return web, serving, listening.getsockname()[1]

    async def _stop_in_order(
        self,
        server: grpc.aio.Server,
        web: uvicorn.Server,
        serving: "asyncio.Task[None]",
        dispatching: "asyncio.Task[None]",
    ) -> None:
        self._notifier.send("STOPPING=1")
        self._ready = False
        step_s = self._settings.stop_deadline_s / 3  # two such steps and the closing stay within the deadline
        await self._health.enter_graceful_shutdown()
        self._ingest.drain()
        web.should_exit = True
        await asyncio.gather(
            within(step_s, "rest", lambda: finished(serving)),
            within(step_s, "grpc", lambda: server.stop(step_s / 2)),
        )
        self._last_messages.set()
        await within(step_s, "dispatch", lambda: finished(dispatching))
        await self._close()
        log.info("receiver stopped")

    async def _close(self) -> None:
        await self._tasks.cancel()
        await self._directory.stop()
        await self._vision.close()
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self._queue.close)


class _Web(uvicorn.Server):
    """uvicorn without its own signal handling: this process has one orderly stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except (OSError, ValueError, OverflowError) as error:
        raise CrowError(Kind.UNAVAILABLE, "rest_listen", f"cannot listen on {address}: {error}") from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _raised(failure: "asyncio.Future[None]") -> None:
    await asyncio.shield(failure)
