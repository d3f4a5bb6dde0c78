"""Sessions: open one, look at one. A tenant sees its own alone; another's is not there."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import Field

from crow_receiver.messages.coverage import Coverage
from crow_receiver.rest.errors import Problem
from crow_receiver.rest.gateway import OrganizationId
from crow_receiver.rest.model import JsonModel
from crow_receiver.rest.port import Intake, SessionStatus, SessionView
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey, checked_id

MAX_NAME_CHARS = 120
_LAST_MS = 253_402_300_799_999  # the end of the year 9999


class SessionRequest(JsonModel):
    """Which camera's session to open; `startedAt` (milliseconds since the Unix epoch) is now when left out."""

    site_id: str
    camera_id: str
    camera_name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME_CHARS)
    started_at: int | None = Field(default=None, ge=1, le=_LAST_MS)


class SessionFrames(JsonModel):
    """The session's frames by what became of them; received is their sum."""

    received: int
    analysed: int
    failed: int
    pending: int


class SessionAnswer(JsonModel):
    """A session as it stands; times are capture times in milliseconds since the Unix epoch."""

    session_id: str
    site_id: str
    camera_id: str
    camera_name: str
    status: SessionStatus
    started_at: int
    last_frame_at: int | None
    ended_at: int | None
    frames: SessionFrames
    batches: int
    revision: int
    coverage: Coverage

    @classmethod
    def of(cls, view: SessionView) -> "SessionAnswer":
        """The answer for a view."""
        return cls(
            session_id=view.session_id,
            site_id=view.camera.site_id,
            camera_id=view.camera.camera_id,
            camera_name=view.camera_name,
            status=view.status,
            started_at=view.started_us // 1000,
            last_frame_at=None if view.last_us is None else view.last_us // 1000,
            ended_at=None if view.ended_us is None else view.ended_us // 1000,
            frames=SessionFrames(
                received=view.received, analysed=view.analysed, failed=view.failed, pending=view.pending
            ),
            batches=view.batches,
            revision=view.revision,
            coverage=view.coverage,
        )


def session_routes(intake: Intake, clock: Clock) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/sessions", tags=["sessions"])

    @router.post(
        "", status_code=HTTPStatus.CREATED, responses={200: {"model": SessionAnswer, "description": "Is open"}}
    )
    async def open_session(
        wanted: SessionRequest, organization_id: OrganizationId, response: Response
    ) -> SessionAnswer:
        """Opens the camera's session, or finds it open. 201: opened; 200: it was open already."""
        camera = CameraKey(organization_id, checked_id(wanted.site_id, "site"), checked_id(wanted.camera_id, "camera"))
        at_us = clock.now_us() if wanted.started_at is None else wanted.started_at * 1000
        opened = await intake.open_session(camera, wanted.camera_name, at_us)
        if not opened.created:
            response.status_code = HTTPStatus.OK
        return SessionAnswer.of(opened.session)

    @router.get("/{session_id:path}", responses={404: {"model": Problem}})
    async def get_session(session_id: str, organization_id: OrganizationId) -> SessionAnswer:
        """The session as it stands."""
        view = await intake.session(organization_id, session_id)
        if view is None or view.camera.organization_id != organization_id:
            raise CrowError(Kind.NOT_FOUND, "session_unknown", "there is no such session")
        return SessionAnswer.of(view)

    return router
