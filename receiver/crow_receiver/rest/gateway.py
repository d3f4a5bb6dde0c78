"""Who may call: the gateway, by the shared key, for the tenant that it names.

The key is checked before a byte of the body is read. The tenant comes from the gateway's header alone.
"""

import hmac
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from crow_receiver.rest.errors import of_crow_error
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

API_PREFIX = "/api/"
KEY_HEADER = "X-Internal-Key"
ORGANIZATION_HEADER = "X-Organization-Id"
USER_HEADER = "X-User-Id"
_MAX_USER_CHARS = 128

documented_key = APIKeyHeader(
    name=KEY_HEADER, auto_error=False, description="Shared by the gateway and its services; checked by GatewayKey."
)


class GatewayKey:
    """ASGI middleware: refuses calls under API_PREFIX without the key; binds the caller to the log lines of others."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key.encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(headers):
            await of_crow_error(refusal)(scope, receive, send)
            return
        caller = {
            name: headers[header][:_MAX_USER_CHARS]
            for name, header in (("organization_id", ORGANIZATION_HEADER), ("user_id", USER_HEADER))
            if header in headers
        }
        with bound_contextvars(**caller):
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> CrowError | None:
        if self._key is None:
            return CrowError(Kind.UNAVAILABLE, "no_internal_key", "INTERNAL_GATEWAY_KEY is not set: the API is closed")
        given = headers.getlist(KEY_HEADER)
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self._key):
            return CrowError(Kind.UNAUTHENTICATED, "unauthenticated", f"{KEY_HEADER} is missing or wrong")
        return None


async def _organization_id(
    request: Request,
    _tenant: Annotated[str | None, Header(alias=ORGANIZATION_HEADER, description="Whose call it is.")] = None,
    _user: Annotated[str | None, Header(alias=USER_HEADER, description="The end user, for the log.")] = None,
) -> str:
    # The two parameters document the headers; the list tells, which they cannot, whether one was given twice.
    given = request.headers.getlist(ORGANIZATION_HEADER)
    if len(given) != 1:
        raise CrowError(Kind.INVALID, "organization_missing", f"{ORGANIZATION_HEADER} has to be given, once")
    return checked_id(given[0], ORGANIZATION_HEADER)


OrganizationId = Annotated[str, Depends(_organization_id)]
