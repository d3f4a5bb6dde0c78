"""What a camera says about its stream, without asking for the stream itself."""

from dataclasses import dataclass

from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.sdp import described_video


@dataclass(frozen=True, slots=True)
class Described:
    """A stream that can be opened: where, and its codec by its RTP name."""

    url: CameraUrl
    codec: str


def describe(url: CameraUrl, credentials: Credentials | None, deadline_s: float) -> Described:
    """What the camera says about the stream at `url`, within `deadline_s` seconds.

    Raises CrowError: UNAVAILABLE (`host_unknown`, `unreachable`, `tls_failed`), TIMEOUT (`camera_timeout`), EXHAUSTED
    (`camera_refused`), UNAUTHENTICATED (`auth_failed`), NOT_FOUND (`stream_not_found`), UNSUPPORTED
    (`codec_unsupported`, `no_video`, `auth_unsupported`), INVALID (`redirect_refused`), CORRUPT (`not_rtsp`), TOO_LARGE
    (`answer_too_large`).
    """
    connection = RtspConnection(url, credentials)
    try:
        connection.connect(deadline_s)
        description = connection.describe().body
    finally:
        connection.close()
    return Described(connection.url, described_video(description).codec)
