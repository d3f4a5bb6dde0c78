"""POST /api/v1/cctv/frames: one frame, as the original edge tool uploads it, or as JSON.

A frame's place is derived from what it says of itself, so that an upload sent twice is stored once: the numbering
(epoch) is one per quality, and the number is the second, or the millisecond, of capture.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from crow_receiver.ingest.picture import inspect_picture
from crow_receiver.rest.errors import Problem, sentence
from crow_receiver.rest.gateway import OrganizationId
from crow_receiver.rest.model import JsonModel
from crow_receiver.rest.port import Intake
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding, Frame, TimeSource
from crow_shared.identity import CameraKey, checked_id

JPEG = "image/jpeg"
_MAX_META_BYTES = 16 << 10
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, and below 2^53
_PICTURE_FAULTS = (Kind.INVALID, Kind.CORRUPT)


class EdgeMeta(BaseModel):
    """The part `meta` of a multipart upload; `bucket_sec` is the second of capture since the Unix epoch."""

    store_id: str
    camera_id: str
    bucket_sec: int = Field(ge=1, le=_LAST_MS // 1000)
    quality: Literal["low", "high"]
    content_type: str


class FrameUpload(JsonModel):
    """A frame as JSON; `capturedAt` is in milliseconds since the Unix epoch, `data` is base64."""

    site_id: str
    camera_id: str
    captured_at: int = Field(ge=1, le=_LAST_MS)
    content_type: str
    data: str


class FrameAccepted(JsonModel):
    """The frame is on disk; `duplicate` when it had been before this request."""

    frame_id: str
    session_id: str
    frame_index: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Upload:
    """A frame as it came, whichever way; `seq` is its number within `epoch`."""

    site_id: str
    camera_id: str
    epoch: str
    seq: int
    capture_us: int
    jpeg: bytes

    def camera(self, organization_id: str) -> CameraKey:
        """Whose frame it is. Raises CrowError(INVALID) for an id that is none."""
        return CameraKey(organization_id, checked_id(self.site_id, "site"), checked_id(self.camera_id, "camera"))

    def frame(self) -> Frame:
        """The frame, with its size read from the picture. Raises CrowError(UNSUPPORTED | TOO_LARGE)."""
        try:
            width, height = inspect_picture(Encoding.JPEG, self.jpeg)
        except CrowError as error:
            if error.kind in _PICTURE_FAULTS:
                raise CrowError(Kind.UNSUPPORTED, error.code, error.message) from error
            raise
        frame = Frame.of_picture(self.camera_id, self.capture_us, TimeSource.ARRIVAL, width, height, self.jpeg)
        return replace(frame, seq=self.seq)


def frame_routes(intake: Intake) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["frames"])

    @router.post(
        "/frames",
        status_code=HTTPStatus.ACCEPTED,
        openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
        responses={status: {"model": Problem} for status in (404, 413, 415, 429)},
    )
    async def accept_frame(request: Request, organization_id: OrganizationId) -> FrameAccepted:
        """Stores one frame. 202: it is on disk; its analysis follows."""
        upload = await _upload(request)
        camera = upload.camera(organization_id)
        accepted = await intake.accept(camera, upload.epoch, upload.frame())
        return FrameAccepted(
            frame_id=f"{camera}/{upload.epoch}/{upload.seq}",
            session_id=accepted.session_id,
            frame_index=accepted.frame_index,
            duplicate=accepted.duplicate,
        )

    return router


async def _upload(request: Request) -> _Upload:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == "multipart/form-data":
            async with request.form(max_files=2, max_fields=2, max_part_size=_MAX_META_BYTES) as form:
                return await _from_multipart(form)
        if media_type == "application/json":
            return _from_json(FrameUpload.model_validate_json(await request.body()))
    except ValidationError as error:
        faults = sentence(error.errors(include_url=False, include_context=False, include_input=False))
        raise CrowError(Kind.INVALID, "bad_request", faults) from None
    raise CrowError(
        Kind.UNSUPPORTED, "unsupported_media_type", "a frame comes as multipart/form-data or as application/json"
    )


async def _from_multipart(form: FormData) -> _Upload:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise CrowError(Kind.INVALID, "bad_request", "part file: the JPEG is missing")
    meta = EdgeMeta.model_validate_json(await _meta(form))
    _require_jpeg(meta.content_type)
    jpeg = await file.read(MAX_PICTURE_BYTES + 1)
    capture_us = meta.bucket_sec * 1_000_000
    return _Upload(meta.store_id, meta.camera_id, f"rest-{meta.quality}", meta.bucket_sec, capture_us, jpeg)


async def _meta(form: FormData) -> str | bytes:
    """The part `meta`, which some clients send as a file."""
    meta = form.get("meta")
    if isinstance(meta, UploadFile):
        return await meta.read(_MAX_META_BYTES)
    if meta is None:
        raise CrowError(Kind.INVALID, "bad_request", "part meta: the JSON is missing")
    return meta


def _from_json(upload: FrameUpload) -> _Upload:
    _require_jpeg(upload.content_type)
    try:
        jpeg = base64.b64decode(upload.data, validate=True)
    except (binascii.Error, ValueError):
        raise CrowError(Kind.INVALID, "bad_request", "data: this is no base64") from None
    return _Upload(upload.site_id, upload.camera_id, "rest", upload.captured_at, upload.captured_at * 1000, jpeg)


def _require_jpeg(content_type: str) -> None:
    if content_type.lower() != JPEG:
        raise CrowError(Kind.UNSUPPORTED, "unsupported_media_type", f"a frame is {JPEG}, not {content_type[:80]!r}")


_CONTENT: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["meta", "file"],
            "properties": {
                "meta": EdgeMeta.model_json_schema(),
                "file": {"type": "string", "format": "binary", "description": "The JPEG, up to 2 MiB."},
            },
        },
        "encoding": {"meta": {"contentType": "application/json"}, "file": {"contentType": JPEG}},
    },
    "application/json": {"schema": FrameUpload.model_json_schema()},
}
