"""What it means for an operator that a camera cannot be reached or does not give its stream."""

import socket
import ssl

from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.message import Answer
from crow_shared.errors import CrowError, Kind

STREAM_UNDECODABLE = "stream_undecodable"  # the CrowError code of packets without a whole picture for long
READ_TIMEOUT_S = 4.0  # of silence, and the stream is stalled
FIRST_KEYFRAME_S = 30.0  # a camera may send the rest of a long group of pictures before its first keyframe
REDIRECTS = (301, 302, 303, 305, 307, 308)


def connection_error(url: CameraUrl, error: OSError | UnicodeError) -> CrowError:
    """What it means for an operator that a connection failed so."""
    match error:
        case socket.gaierror():
            return CrowError(
                Kind.UNAVAILABLE,
                "host_unknown",
                f"the name {url.host!r} cannot be looked up; check it, or use an address",
            )
        case TimeoutError():
            return CrowError(
                Kind.TIMEOUT,
                "camera_timeout",
                f"{url.authority} does not answer in time; is the camera on, and the port right?",
            )
        case ssl.SSLError():
            return CrowError(
                Kind.UNAVAILABLE, "tls_failed", f"{url.authority} does not speak TLS with us: {error.reason}"
            )
        case ConnectionRefusedError():
            return CrowError(
                Kind.UNAVAILABLE,
                "unreachable",
                f"{url.authority} refuses connections; is RTSP switched on, and the port right?",
            )
        case ConnectionError() | UnicodeError():
            return CrowError(
                Kind.UNAVAILABLE, "unreachable", f"{url.authority} ends the connection ({type(error).__name__})"
            )
        case _:
            return CrowError(
                Kind.UNAVAILABLE, "unreachable", f"{url.authority} cannot be reached: {error.strerror or error}"
            )


def same_place(url: CameraUrl, answer: Answer) -> CameraUrl:
    """Where a redirect leads, when that is the same host and port: only such ones are followed.

    Raises CrowError: INVALID "redirect_refused".
    """
    try:
        target = CameraUrl.parse_redirect(answer.first("location") or "")
    except CrowError:
        target = None
    if target is None or (target.scheme, target.authority) != (url.scheme, url.authority):
        where = target.authority if target else "something that is no RTSP URL"
        raise CrowError(
            Kind.INVALID,
            "redirect_refused",
            f"{url.authority} redirects to {where}, which is not followed; if that is right, set it as the URL",
        )
    return target


def refusal(authority: str, status: int) -> CrowError:
    """What it means that a request for the stream was answered so, by the camera at that host and port."""
    match status:
        case 401 | 403:
            return CrowError(
                Kind.UNAUTHENTICATED,
                "auth_failed",
                f"{authority} does not accept the user name and password; tried again rarely, so that the account "
                "is not locked",
            )
        case 404 | 454 | 400:
            return CrowError(
                Kind.NOT_FOUND,
                "stream_not_found",
                f"{authority} has no stream at this path (it answers {status}); check the path of the URL",
            )
        case status if status in REDIRECTS:
            return CrowError(Kind.INVALID, "redirect_refused", f"{authority} redirects further than is followed")
        case _:
            return CrowError(Kind.EXHAUSTED, "camera_refused", f"{authority} refuses the stream (it answers {status})")
