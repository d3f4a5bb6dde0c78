"""How the receiver is reached: channels, TLS, keepalive, and gRPC's errors in our words.

Invariant: a TLS session is taken up again only while the same CA is trusted. A session that is resumed is not verified
anew, so a CA that was exchanged must not live on in one.
"""

from pathlib import Path
from typing import TypeAlias

import grpc
from grpc.experimental.session_cache import SSLSessionCache, ssl_session_cache_lru

from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.settings import UplinkSettings
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_MESSAGE_BYTES

# A link that drops packets is noticed by the kernel within `keepalive_timeout_ms` of sending, one whose other end takes
# bytes and says nothing by the ping that is not answered, an idle one after 17 s. The defaults take over a minute.
_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 7_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

_KINDS = {
    grpc.StatusCode.UNAUTHENTICATED: Kind.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.UNAUTHENTICATED,
    grpc.StatusCode.ALREADY_EXISTS: Kind.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: Kind.UNSUPPORTED,
    grpc.StatusCode.INVALID_ARGUMENT: Kind.INVALID,
}

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.StreamFramesRequest, pb.StreamFramesResponse]"


class Dialer:
    """Makes channels to the receiver."""

    def __init__(self, settings: UplinkSettings) -> None:
        """Reads nothing yet: a CA file may be exchanged at any time, and is read for each channel."""
        self._settings = settings
        self._roots: bytes | None = None
        self._sessions = _no_sessions()

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own for each connection, so that no back-off but the uplink's own delays it.

        Raises CrowError(UNAVAILABLE) "ca_unreadable".
        """
        if not self._settings.tls:
            return grpc.aio.insecure_channel(self._settings.receiver, options=_OPTIONS)
        roots = self._read_roots()
        if roots != self._roots:
            self._roots, self._sessions = roots, _no_sessions()
        options = [*_OPTIONS, ("grpc.ssl_session_cache", self._sessions)]
        return grpc.aio.secure_channel(self._settings.receiver, grpc.ssl_channel_credentials(roots), options=options)

    def _read_roots(self) -> bytes | None:
        ca_file = self._settings.ca_file
        try:
            return Path(ca_file).read_bytes() if ca_file else None
        except OSError as error:
            raise CrowError(
                Kind.UNAVAILABLE, "ca_unreadable", f"cannot read uplink.ca_file {ca_file}: {error.strerror}"
            ) from None


def _no_sessions() -> SSLSessionCache:
    cache: SSLSessionCache = ssl_session_cache_lru(1)  # type: ignore[no-untyped-call]
    return cache


async def read(call: Call) -> pb.StreamFramesResponse | None:
    """The next message, or None at the end of the stream."""
    response = await call.read()
    return response if isinstance(response, pb.StreamFramesResponse) else None


def translated(code: grpc.StatusCode, details: str | None) -> CrowError:
    """Why a stream has ended."""
    kind = _KINDS.get(code, Kind.UNAVAILABLE)
    return CrowError(kind, f"receiver_{code.name.lower()}", details or f"the receiver ended the stream ({code.name})")
