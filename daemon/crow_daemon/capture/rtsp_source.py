"""Live cameras read with libav, which gets their packets through a relay and may open nothing else."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.pyav_source import Packet, PyavPicture, PyavSource, Stamp
from crow_daemon.capture.rhythm import KeyframeRhythm
from crow_daemon.capture.source import StreamInfo
from crow_daemon.registry.camera import RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.relay.relay import Relay
from crow_daemon.rtsp.failures import FIRST_KEYFRAME_S, STREAM_UNDECODABLE
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

_TIMEOUTS_S = (10.0, FIRST_KEYFRAME_S)  # to open and to read: the relay tells earlier, and why
_OPTIONS = {
    "rtsp_transport": "tcp",
    "protocol_whitelist": "rtsp,rtp,tcp",
    "allowed_media_types": "video",
    "fpsprobesize": "0",  # with analyzeduration: opens in a third of a second instead of three
    "analyzeduration": "500000",
}
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
        capture_clock: CaptureClock,
        *,
        keyframes: bool = False,
    ) -> None:
        """Not connected yet. `capture_clock` is the camera's; `keyframes`: nothing else is given, and as they are."""
        super().__init__(rhythm, clock, keyframes_only=keyframes, sent_as_they_are=keyframes)
        self._address = address
        self._capture_clock = capture_clock
        self._relay = Relay(address, credentials, self._patience_s, keyframes_only=keyframes)
        self._damaged: deque[int] = deque([0, 0], maxlen=2)  # pictures, when the last keyframes were read

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return self._capture_clock.jumps

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order, until `stop`; None stands for one that came damaged. Raises CrowError."""
        told = 0
        for picture in super().pictures():
            for _ in range(told, damaged := self._relay.damaged):
                yield None
            told = damaged
            yield picture

    def stop(self) -> None:
        """From any thread: ends `open` and `pictures` at once."""
        super().stop()
        self._relay.interrupt()

    def close(self) -> None:
        """Closes the connection; from the reading thread only."""
        super().close()
        self._relay.close()

    def _open_container(self) -> InputContainer:
        url = self._relay.open()
        try:
            return av.open(url, options=_OPTIONS, timeout=_TIMEOUTS_S)
        except (av.FFmpegError, ValueError) as error:
            raise self._relay.failure or CrowError(
                Kind.UNAVAILABLE, "open_failed", f"{self._where()} sends no stream ({type(error).__name__})"
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
        if packet.is_keyframe:
            # The relay is a little ahead, so a loss may be told before the keyframe in front of it is read.
            if self._relay.damaged != self._damaged[0]:
                self._rhythm.hole()
            self._damaged.append(self._relay.damaged)
        if stream_us is not None and packet.has_sidedata(_CAMERA_TIME):
            (wall_clock_us,) = _WALL_CLOCK_US.unpack_from(packet.get_sidedata(_CAMERA_TIME))
            self._capture_clock.camera_clock(wall_clock_us - stream_us)

    def _where(self) -> str:
        return self._address.url.authority

    def _ended(self, error: av.FFmpegError | None) -> None:
        failure = self._relay.failure
        if isinstance(error, (av.ExitError, av.TimeoutError)) or (failure and failure.code == STREAM_UNDECODABLE):
            self._undecodable()
        raise failure or CrowError(Kind.UNAVAILABLE, "stream_lost", f"{self._where()} ended the stream") from None

    def _waited(self, seconds: float) -> None:
        # A read that times out gives the picture that the parser held back; the error would come with the next read,
        # after the same time again.
        if seconds >= FIRST_KEYFRAME_S:
            self._undecodable()

    def _undecodable(self) -> None:
        if self._keyframes_only and not self._pictures:
            self._rhythm.cannot_serve("do not come")
        raise CrowError(
            Kind.UNAVAILABLE, STREAM_UNDECODABLE, f"{self._where()} sends nothing that can be decoded any more"
        )
