"""Recordings: video files in a known container, which may open nothing else."""

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.choice import why_decoded
from crow_daemon.capture.keyframes import KeyframeRhythm
from crow_daemon.capture.pyav_source import Packet, PyavPicture, PyavSource, Stamp, microseconds
from crow_daemon.capture.source import StreamInfo
from crow_daemon.registry.camera import Camera, CaptureMode, Recording
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

_CONTAINERS = "mov,matroska,avi,mpegts,flv,gif,h264,hevc"
_LOOKED_AHEAD_US = 60_000_000  # of the recording, to see how far apart its keyframes are


class RecordingSource(PyavSource):
    """A video file; read as fast as its frames are taken. One that is damaged half-way ends there.

    Its mode is chosen by the keyframes of its first minute. Should they get rarer later, the rest is decoded.
    """

    def __init__(
        self,
        camera: Camera,
        recording: Recording,
        rhythm: KeyframeRhythm,
        clock: Clock,
        start_at_us: int | None = None,
    ) -> None:
        """Not open yet. Pictures taken before `start_at_us`, in microseconds since the Unix epoch, are left out."""
        super().__init__(rhythm, clock, keyframes_only=camera.mode is CaptureMode.KEYFRAME)
        self._camera = camera
        self._recording = recording
        self._start_at_us = start_at_us
        self._first_us: int | None = None  # stream time of the first picture
        self._last_us = 0
        self._cut_short = False

    def open(self) -> StreamInfo:
        """Opens the file. Raises CrowError."""
        with self._open_container() as container:
            self._look_ahead(container)
        return super().open()

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order; None stands for one that came damaged, or for the rest of a damaged file."""
        self._skip_ahead()
        for picture in super().pictures():
            if picture is None or self._start_at_us is None or picture.capture_us >= self._start_at_us:
                yield picture
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

    def _look_ahead(self, container: InputContainer) -> None:
        """Learns the first picture's time and how far apart keyframes are."""
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        try:
            for packet in container.demux(stream):
                at_us = microseconds(packet.pts, stream)
                if at_us is None:
                    continue
                if self._first_us is None:
                    self._first_us = at_us
                self._first_us = min(self._first_us, at_us)  # pictures need not come in their order
                if packet.is_keyframe:
                    self._rhythm.keyframe(at_us)
                if at_us - self._first_us > _LOOKED_AHEAD_US:
                    break
        except av.FFmpegError:
            return  # a damaged file tells so again when it is read

    def _skip_ahead(self) -> None:
        """Goes to the last keyframe before the time to start at."""
        assert self._container is not None, "open comes first"
        stream = self._container.streams.video[0]
        if self._start_at_us is None or self._first_us is None or stream.time_base is None:
            return
        at_us = self._first_us + self._start_at_us - self._recording.start_us
        if at_us > self._first_us:
            try:
                self._container.seek(int(at_us / 1_000_000 / stream.time_base), stream=stream, backward=True)
            except av.FFmpegError:
                self._container.seek(0)  # a file without an index: read from the beginning on

    def _describe(self, stream: VideoStream) -> StreamInfo:
        context = stream.codec_context
        fps = float(stream.average_rate) if stream.average_rate else None
        assert self._container is not None
        if stream.duration is not None and stream.time_base is not None:
            lasts_us = int(stream.duration * stream.time_base * 1_000_000)
        else:
            lasts_us = self._container.duration or 0
        end_us = self._recording.start_us + lasts_us if lasts_us > 0 else None
        why = self._why_decoded(context.name)
        self._sent_as_they_are = why is None
        if self._keyframes_only and why is not None:
            raise CrowError(Kind.UNSUPPORTED, "mode_impossible", f"keyframes cannot be sent as they are: {why}")
        return StreamInfo(
            context.name,
            context.width,
            context.height,
            fps,
            end_us,
            mode="decode" if why else "keyframe",
            why=why or "its keyframes come often enough to be the samples",
        )

    def _why_decoded(self, codec: str) -> str | None:
        if self._keyframes is None:
            return f"only keyframes of H.264 and H.265 can be sent as they are, and this is {codec}"
        return why_decoded(self._camera, self._rhythm)

    def _stamp(self, stream_us: int | None) -> Stamp:
        if stream_us is None:
            stream_us = self._last_us + 1
        if self._first_us is None:
            self._first_us = stream_us
        self._last_us = stream_us
        return self._recording.start_us + stream_us - self._first_us, TimeSource.RECORDING, None

    def _came(self, packet: Packet, stream_us: int | None) -> None:
        """A recording says nothing beside its pictures."""

    def _where(self) -> str:
        return str(self._recording.path)

    def _ended(self, error: av.FFmpegError | None) -> None:
        self._cut_short = error is not None

    def _waited(self, seconds: float) -> None:
        """A slow disk is waited for."""

    def _undecodable(self) -> None:
        """A recording is read on: reading it again would not help."""
