"""Asks a camera for its stream description before libav may talk to it.

libav says little about why a stream does not open, follows a redirect to any host, and sends that host the camera's
credentials. So this small client does the DESCRIBE first. It answers with a typed failure or with the URL that libav
may open. A camera that behaves here and redirects libav a moment later is not stopped by this: only a firewall or the
unit's address allow-list does that.

Invariants
1. Credentials go to the configured host and port only, and only after it asked for them.
2. The whole exchange ends by its deadline, and no answer is read beyond `MAX_HEADER_BYTES` and `MAX_BODY_BYTES`.
   (Looking up a name has the resolver's own time-outs.)
3. No message holds credentials.
"""

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
