"""Bodies are bounded while they stream in, whatever their Content-Length says."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crow_shared.frame import MAX_PICTURE_BYTES

# A picture in base64, the longest form that it may come in, and everything around it.
MAX_BODY_BYTES = (MAX_PICTURE_BYTES + 2) // 3 * 4 + (64 << 10)


class BodyLimit:
    """ASGI middleware: the read that passes the limit raises 413 inside the app, which answers in its own form.

    A declared length over the limit fails at the first read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        too_large = declared.isdecimal() and int(declared) > self._max_bytes
        seen_bytes = 0

        async def bounded() -> Message:
            nonlocal seen_bytes
            if too_large:
                raise self._refusal()
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > self._max_bytes:
                raise self._refusal()
            return message

        await self._app(scope, bounded, send)

    def _refusal(self) -> HTTPException:
        return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {self._max_bytes} bytes")
