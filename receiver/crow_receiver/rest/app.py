"""The REST surface, put together."""

from fastapi import APIRouter, FastAPI, Security
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from crow_receiver.queue.port import OutputQueue
from crow_receiver.rest.body_limit import MAX_BODY_BYTES, BodyLimit
from crow_receiver.rest.errors import Problem, install
from crow_receiver.rest.frames import frame_routes
from crow_receiver.rest.gateway import GatewayKey, documented_key
from crow_receiver.rest.operations import operation_routes
from crow_receiver.rest.port import Intake, Readiness
from crow_receiver.rest.queues import queue_routes
from crow_receiver.rest.sessions import session_routes
from crow_shared.clock import Clock

PREFIX = "/api/v1/cctv"


def create_app(
    *,
    intake: Intake,
    queue: OutputQueue,
    readiness: Readiness,
    internal_key: str | None,
    clock: Clock,
    registry: CollectorRegistry,
    gateway_url: str | None = None,
) -> FastAPI:
    """The ASGI application. Without an internal key everything under /api answers 503.

    `gateway_url` is where clients reach the routes from outside: the OpenAPI document names it as the server.
    """
    app = FastAPIOffline(
        title="crow-cctv receiver",
        summary="Frames and sessions in, analysed batches out",
        redoc_url=None,
        servers=[{"url": gateway_url}] if gateway_url else None,
    )
    install(app)
    api = APIRouter(
        prefix=PREFIX,
        dependencies=[Security(documented_key)],
        responses={status: {"model": Problem} for status in (400, 401, 503)},
    )
    for routes in (frame_routes(intake), session_routes(intake, clock), queue_routes(queue)):
        api.include_router(routes)
    app.include_router(api)
    app.include_router(operation_routes(readiness, registry))
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(GatewayKey, key=internal_key)  # added last: outermost
    return app
