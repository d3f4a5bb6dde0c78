"""Every answer that is no success: one table from kinds to statuses, one body `{"error", "message"}`.

An answer with a status of 500 or more names no path and no library: that goes to the log.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from crow_shared.errors import CrowError, Kind

RETRY_AFTER_S = 5

STATUSES = {
    Kind.INVALID: HTTPStatus.BAD_REQUEST,
    Kind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.UNSUPPORTED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Kind.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.CORRUPT: HTTPStatus.INTERNAL_SERVER_ERROR,  # stored bytes; a received picture is judged by rest.frames
    Kind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.TIMEOUT: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Kind.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_PLAIN = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "the receiver failed on this request; its log says why",
    HTTPStatus.SERVICE_UNAVAILABLE: "the receiver cannot do this now; try again later",
}
# The framework's own refusals; its phrases for them change between versions of Python.
_FRAMEWORK_CODES = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
}

log = structlog.get_logger()


class Problem(BaseModel):
    """The body of every error."""

    error: str
    message: str


def problem(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error answer."""
    return JSONResponse(Problem(error=error, message=message).model_dump(), status, headers)


def of_crow_error(error: CrowError) -> JSONResponse:
    """The answer for a failure of a known kind; logs what the caller is not told."""
    status = STATUSES[error.kind]
    message = error.message
    if status in _PLAIN:
        log.warning("request failed", kind=error.kind, code=error.code, error=error.message)
        message = _PLAIN[status]
    retry_after = {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else None
    return problem(status, error.code, message, retry_after)


def install(app: FastAPI) -> None:
    """Makes the app answer every error in the one form."""
    app.add_exception_handler(CrowError, _crow_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)


def sentence(faults: Sequence[Any]) -> str:
    """The faults that pydantic found, without what the caller had sent."""
    return "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)


async def _crow_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CrowError)
    return of_crow_error(error)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(HTTPStatus.BAD_REQUEST, "bad_request", sentence(error.errors()))


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    """The framework's own: an unknown route, a method that a route does not have, a body that is no multipart."""
    assert isinstance(error, HTTPException)
    code = _FRAMEWORK_CODES.get(HTTPStatus(error.status_code), "bad_request")
    return problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}", error.headers)


async def _gone(_: Request, __: Exception) -> JSONResponse:
    """Nobody is left to read this; without it a client that hangs up would be logged as a defect of ours."""
    return problem(HTTPStatus.BAD_REQUEST, "client_gone", "the request ended early")


async def _defect(_: Request, __: Exception) -> JSONResponse:
    """The server logs the exception, which the framework raises again after this answer."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", _PLAIN[HTTPStatus.INTERNAL_SERVER_ERROR])
