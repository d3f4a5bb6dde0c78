"""Cameras and recordings read with libav.

Invariants
1. libav opens RTSP only after the preflight has, and may use RTSP and its transports alone; a recording is a file in
   a known container and may open nothing else. (By themselves, playlists open further files and URLs.)
2. No text of libav's leaves this module: its exceptions hold the URL, and with it the password.
3. A container is used by one thread. Closing it from another one crashes the process, so `stop` only raises a flag
   that is seen after each packet, and at the latest when the read times out.
4. A packet that cannot be decoded is damage; packets without a whole picture for long are a lost stream (a camera that
   changed its codec gives errors for ever).
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import av
import av.logging
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframes import Decode, KeyframePolicy
from crow_daemon.capture.preflight import describe
from crow_daemon.capture.pyav_picture import PyavPicture
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import STREAM_STALLED
from crow_daemon.registry.camera import Camera, Recording, RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

av.logging.set_level(None)  # its log lines hold passwords, and logging from decoder threads can deadlock

READ_TIMEOUT_S = 4.0
OPEN_TIMEOUT_S = 8.0
PREFLIGHT_DEADLINE_S = 5.0
FIRST_PICTURE_S = 30.0  # a camera may send the rest of a long group of pictures before its first keyframe
MIN_PATIENCE_S = 5.0  # later: this, or twice the longest distance of keyframes
_CONTAINERS = "mov,matroska,avi,mpegts,flv,gif,h264,hevc"


class PyavSource(ABC):
    """What live cameras and recordings have in common."""

    def __init__(self, sample_interval_us: int, clock: Clock) -> None:
        """Not open yet."""
        self._policy = KeyframePolicy(sample_interval_us)
        self._clock = clock
        self._stop = threading.Event()
        self._container: InputContainer | None = None

    def open(self) -> StreamInfo:
        """Connects and finds the video stream. Raises CrowError."""
        self._container = self._open_container()
        if not self._container.streams.video:
            raise CrowError(Kind.UNSUPPORTED, "no_video", f"{self._where()} has no video")
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = ThreadType.NONE
        return self._describe(stream)

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order, until `stop`; None stands for one that came damaged. Raises CrowError."""
        assert self._container is not None, "open comes first"
        stream = self._container.streams.video[0]
        whole_s, patience_s = self._clock.monotonic_s(), FIRST_PICTURE_S
        for packet in self._packets(self._container, stream):
            try:
                frames = self._decode(stream, packet)
            except av.FFmpegError:
                frames = [None]
            for frame in frames:
                if frame is None or frame.is_corrupt:
                    yield None
                elif (picture := self._picture(frame)) is not None:
                    whole_s, patience_s = self._clock.monotonic_s(), self._patience_s()
                    self._policy.decoded(picture.capture_us)
                    yield picture
            if self._clock.monotonic_s() - whole_s > patience_s:
                self._undecodable()

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return 0

    @property
    def keyframe_interval_ms(self) -> int | None:
        """The longest distance between two keyframes so far; None before the second one."""
        longest_us = self._policy.longest_us
        return None if longest_us is None else round(longest_us / 1000)

    def stop(self) -> None:
        """From any thread: ends `pictures` after the current packet, at the latest when its read times out."""
        self._stop.set()

    def close(self) -> None:
        """Closes the connection; from the reading thread only."""
        if self._container is not None:
            self._container.close()
            self._container = None

    @abstractmethod
    def _open_container(self) -> InputContainer: ...

    @abstractmethod
    def _describe(self, stream: VideoStream) -> StreamInfo: ...

    @abstractmethod
    def _picture(self, frame: av.VideoFrame) -> PyavPicture | None:
        """The picture with its time; None while that cannot be told."""

    @abstractmethod
    def _where(self) -> str:
        """The source in an error message."""

    @abstractmethod
    def _ended(self, error: av.FFmpegError | None) -> None:
        """The packets have ended, regularly if without an error; raises CrowError when that is a failure."""

    @abstractmethod
    def _waited(self, seconds: float) -> None:
        """A packet was waited for so long; raises CrowError when that was too long."""

    @abstractmethod
    def _undecodable(self) -> None:
        """Nothing could be decoded for long; raises CrowError when that is a failure."""

    def _patience_s(self) -> float:
        return max(MIN_PATIENCE_S, 2 * (self._policy.longest_us or 0) / 1_000_000)

    def _packets(self, container: InputContainer, stream: VideoStream) -> "Iterator[av.Packet[VideoStream]]":
        packets = container.demux(stream)
        while not self._stop.is_set():
            began_s = self._clock.monotonic_s()
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                if not self._stop.is_set():
                    self._ended(error)
                return
            if packet is None or self._stop.is_set():
                return
            if not packet.size:  # the end; this packet makes the decoder give what it still holds
                self._ended(None)
            self._waited(self._clock.monotonic_s() - began_s)
            yield packet

    def _decode(self, stream: VideoStream, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame | None]:
        context = stream.codec_context
        before = self._policy.keyframes_alone
        how = self._policy.decide(is_key=packet.is_keyframe, stream_us=_stream_us(packet.pts, stream))
        if how is Decode.SKIP and packet.size:
            return []
        if how is not Decode.ALONE:
            return list(context.decode(packet))
        late = [] if before else list(context.decode(None))  # what the decoder still held of the stream before it
        context.flush_buffers()
        frames = [*context.decode(packet), *context.decode(None)]
        context.flush_buffers()
        if not frames:
            self._policy.give_up()
        return [*late, *frames]


class RtspSource(PyavSource):
    """A live camera."""

    def __init__(
        self, address: RtspAddress, credentials: Credentials | None, sample_interval_us: int, clock: Clock
    ) -> None:
        """Not connected yet."""
        super().__init__(sample_interval_us, clock)
        self._address = address
        self._credentials = credentials
        self._capture_clock = CaptureClock()
        self._timed = False

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

    def _picture(self, frame: av.VideoFrame) -> PyavPicture | None:
        assert self._container is not None
        if frame.pts is None and not self._timed:  # the first picture of a stream has no timestamp
            self._timed = True
            return None
        zero_us = self._container.start_time_realtime
        if zero_us is not None and zero_us > 0:
            self._capture_clock.camera_clock(zero_us)
        stream = self._container.streams.video[0]
        arrival_us = self._clock.now_us()
        return PyavPicture(frame, *self._capture_clock.time_of(_stream_us(frame.pts, stream), arrival_us))

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
        raise CrowError(
            Kind.UNAVAILABLE, "stream_undecodable", f"{self._where()} sends nothing that can be decoded any more"
        )


class RecordingSource(PyavSource):
    """A video file; read as fast as its frames are taken. One that is damaged half-way ends there."""

    def __init__(self, recording: Recording, sample_interval_us: int, clock: Clock) -> None:
        """Not open yet."""
        super().__init__(sample_interval_us, clock)
        self._recording = recording
        self._first_us: int | None = None
        self._last_us = 0
        self._cut_short = False

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order; None stands for one that came damaged, or for the rest of a damaged file."""
        yield from super().pictures()
        if self._cut_short:
            yield None

    def _open_container(self) -> InputContainer:
        path: Path = self._recording.path
        if not path.is_file():
            raise CrowError(Kind.NOT_FOUND, "recording_missing", f"there is no file {path}")
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        try:
            return av.open(f"file:{path}", options=options)
        except PermissionError:
            raise CrowError(Kind.UNAVAILABLE, "recording_unreadable", f"{path} may not be read") from None
        except (av.FFmpegError, ValueError) as error:
            raise CrowError(
                Kind.UNSUPPORTED,
                "recording_unreadable",
                f"{path} is no usable video (MP4, MOV, MKV, WebM, AVI, TS): {type(error).__name__}",
            ) from None

    def _describe(self, stream: VideoStream) -> StreamInfo:
        context = stream.codec_context
        fps = float(stream.average_rate) if stream.average_rate else None
        assert self._container is not None
        if stream.duration is not None and stream.time_base is not None:
            lasts_us = int(stream.duration * stream.time_base * 1_000_000)
        else:
            lasts_us = self._container.duration or 0
        end_us = self._recording.start_us + lasts_us if lasts_us > 0 else None
        return StreamInfo(context.name, context.width, context.height, fps, end_us)

    def _picture(self, frame: av.VideoFrame) -> PyavPicture:
        assert self._container is not None
        stream_us = _stream_us(frame.pts, self._container.streams.video[0])
        if stream_us is None:
            stream_us = self._last_us + 1
        if self._first_us is None:
            self._first_us = stream_us
        self._last_us = stream_us
        return PyavPicture(frame, self._recording.start_us + stream_us - self._first_us, TimeSource.RECORDING)

    def _where(self) -> str:
        return str(self._recording.path)

    def _ended(self, error: av.FFmpegError | None) -> None:
        self._cut_short = error is not None

    def _waited(self, seconds: float) -> None:
        """A slow disk is waited for."""

    def _undecodable(self) -> None:
        """A recording is read on: reading it again would not help."""


def source_of(camera: Camera, credentials: Credentials | None, clock: Clock) -> PyavSource:
    """A fresh source for one attempt at reading a camera."""
    match camera.source:
        case RtspAddress() as address:
            return RtspSource(address, credentials, camera.sample_interval_us, clock)
        case Recording() as recording:
            return RecordingSource(recording, camera.sample_interval_us, clock)


def _stream_us(pts: int | None, stream: VideoStream) -> int | None:
    return None if pts is None or stream.time_base is None else int(pts * stream.time_base * 1_000_000)
