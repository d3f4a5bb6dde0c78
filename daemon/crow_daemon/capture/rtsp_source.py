"""Live cameras read with libav.

libav opens RTSP only after the preflight has, and may use RTSP and its transports alone. (By themselves, playlists open
further files and URLs.)
"""

import struct
from collections.abc import Iterator
from typing import Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframes import KeyframeRhythm
from crow_daemon.capture.preflight import describe
from crow_daemon.capture.pyav_source import Packet, PyavSource, Stamp
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import STREAM_STALLED
from crow_daemon.registry.camera import RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

READ_TIMEOUT_S = 4.0
OPEN_TIMEOUT_S = 8.0
PREFLIGHT_DEADLINE_S = 5.0
_CAMERA_TIME: Literal["prft"] = "prft"  # AVProducerReferenceTime, which libav reckons from the last sender report
_WALL_CLOCK_US = struct.Struct("q")


class RtspSource(PyavSource):
    """A live camera."""

    def __init__(
        self,
        address: RtspAddress,
        credentials: Credentials | None,
        rhythm: KeyframeRhythm,
        clock: Clock,
        *,
        keyframes: bool = False,
    ) -> None:
        """Not connected yet. `keyframes`: nothing else is given, and these as they are."""
        super().__init__(rhythm, clock, keyframes_only=keyframes, sent_as_they_are=keyframes)
        self._address = address
        self._credentials = credentials
        self._capture_clock = CaptureClock()

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return self._capture_clock.jumps

    def _open_container(self) -> InputContainer:
        described = describe(self._address.url, self._credentials, PREFLIGHT_DEADLINE_S)
        options = {
            "rtsp_transport": self._address.transport.value,
            "protocol_whitelist": "rtsp,rtp,udp,tcp,tls",
            "allowed_media_types": "video",
            "timeout": str(int(READ_TIMEOUT_S * 1_000_000)),  # microseconds; `stimeout` and `rw_timeout` do nothing
            "fpsprobesize": "0",  # with analyzeduration: opens in a third of a second instead of three
            "analyzeduration": "500000",
        }
        timeouts_s = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            return av.open(described.url.for_libav(self._credentials), options=options, timeout=timeouts_s)
        except av.HTTPUnauthorizedError:
            raise CrowError(
                Kind.UNAUTHENTICATED, "auth_failed", f"{self._where()} accepts the login for one request only"
            ) from None
        except (av.ExitError, av.TimeoutError):
            raise CrowError(
                Kind.TIMEOUT, "camera_timeout", f"{self._where()} describes its stream but does not send it"
            ) from None
        except (av.FFmpegError, ValueError) as error:
            raise CrowError(
                Kind.UNAVAILABLE, "open_failed", f"{self._where()} does not start its stream ({type(error).__name__})"
            ) from None

    def _describe(self, stream: VideoStream) -> StreamInfo:
        context = stream.codec_context
        fps = float(stream.guessed_rate) if stream.guessed_rate else None
        return StreamInfo(context.name, context.width, context.height, fps)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
        first = True
        for packet in super()._packets(container, stream):
            if first and packet.pts is None:
                packet.pts = 0  # libav counts from the first packet, and leaves that one without a timestamp
            first = False
            yield packet

    def _stamp(self, stream_us: int | None) -> Stamp:
        capture_us, time_source = self._capture_clock.time_of(stream_us, self._clock.now_us())
        return capture_us, time_source, self._capture_clock.skew_us

    def _came(self, packet: Packet, stream_us: int | None) -> None:
        if stream_us is not None and packet.has_sidedata(_CAMERA_TIME):
            (wall_clock_us,) = _WALL_CLOCK_US.unpack_from(packet.get_sidedata(_CAMERA_TIME))
            self._capture_clock.camera_clock(wall_clock_us - stream_us)

    def _where(self) -> str:
        return self._address.url.authority

    def _ended(self, error: av.FFmpegError | None) -> None:
        if isinstance(error, (av.ExitError, av.TimeoutError)):
            raise self._stalled() from None
        raise CrowError(Kind.UNAVAILABLE, "stream_lost", f"{self._where()} ended the stream") from None

    def _waited(self, seconds: float) -> None:
        # A read that times out gives the picture that the parser held back; the error would come with the next read,
        # after the same time again.
        if seconds >= READ_TIMEOUT_S:
            raise self._stalled()

    def _stalled(self) -> CrowError:
        return CrowError(Kind.TIMEOUT, STREAM_STALLED, f"{self._where()} sent nothing for {READ_TIMEOUT_S:.0f} seconds")

    def _undecodable(self) -> None:
        if self._keyframes_only and not self._pictures:
            self._rhythm.cannot_serve("do not come")
        raise CrowError(
            Kind.UNAVAILABLE, "stream_undecodable", f"{self._where()} sends nothing that can be decoded any more"
        )
