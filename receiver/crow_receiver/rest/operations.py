"""Health, readiness and metrics: for supervisors and Prometheus, without a key."""

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel

from crow_receiver.rest.errors import Problem
from crow_receiver.rest.port import Readiness


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The receiver can do its work."""

    status: Literal["ready"] = "ready"


class NotReady(Problem):
    """What stands in the way."""

    reasons: list[str]


def operation_routes(readiness: Readiness, registry: CollectorRegistry) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["operations"])

    @router.get("/health")
    async def health() -> Health:
        """Whether the process answers at all."""
        return Health()

    @router.get("/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Ready | Response:
        """Whether the receiver can do its work; if not, why."""
        reasons = list(await readiness.obstacles())
        if not reasons:
            return Ready()
        answer = NotReady(error="not_ready", message="; ".join(reasons), reasons=reasons)
        return JSONResponse(answer.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
