"""What stands beside the REST surface in its tests."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx
import structlog
from fastapi import FastAPI

from crow_receiver.messages.coverage import Coverage
from crow_receiver.rest.port import Accepted, Opened, SessionStatus, SessionView
from crow_receiver.store.ledger import LedgerSums
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame
from crow_shared.identity import CameraKey

KEY = "k" * 32
GATEWAY = {"X-Internal-Key": KEY, "X-Organization-Id": "org-1", "X-User-Id": "user-7"}


class MemoryIntake:
    """Keeps what it is given. It leaves tenants to its caller, so that the tests see who keeps them apart."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionView] = {}
        self.frames: dict[tuple[CameraKey, str, int], Frame] = {}
        self.failure: Exception | None = None
        self.log_context: dict[str, Any] = {}

    async def accept(self, camera: CameraKey, epoch: str, frame: Frame) -> Accepted:
        self.log_context = structlog.contextvars.get_contextvars()
        if self.failure:
            raise self.failure
        session = next((view for view in self.sessions.values() if view.camera == camera), None)
        if session is None:
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"camera {camera} is not known")
        place = (camera, epoch, frame.seq)
        duplicate = place in self.frames
        self.frames.setdefault(place, frame)
        return Accepted(session.session_id, list(self.frames).index(place), duplicate)

    async def open_session(self, camera: CameraKey, camera_name: str | None, at_us: int) -> Opened:
        session_id = f"{camera.organization_id}.{camera.site_id}.{camera.camera_id}"
        created = session_id not in self.sessions
        view = SessionView(
            session_id=session_id,
            camera=camera,
            camera_name=camera_name or camera.camera_id,
            status=SessionStatus.OPEN,
            started_us=at_us,
            last_us=None,
            ended_us=None,
            received=0,
            analysed=0,
            failed=0,
            pending=0,
            batches=0,
            revision=0,
            coverage=Coverage.of(LedgerSums(), 1, at_us),
        )
        return Opened(self.sessions.setdefault(session_id, view), created)

    async def session(self, organization_id: str, session_id: str) -> SessionView | None:
        return self.sessions.get(session_id)


class ListedObstacles:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    async def obstacles(self) -> list[str]:
        return self.reasons


class AppMaker(Protocol):
    def __call__(self, internal_key: str | None = KEY) -> FastAPI: ...


class ClientMaker(Protocol):
    def __call__(self, app: FastAPI, headers: dict[str, str]) -> AbstractAsyncContextManager[httpx.AsyncClient]: ...
