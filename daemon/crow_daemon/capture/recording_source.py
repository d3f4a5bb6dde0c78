"""Recordings: video files in a known container, which may open nothing else."""

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.choice import why_decoded
from crow_daemon.capture.pyav_source import Packet, PyavPicture, PyavSource, Stamp, microseconds
from crow_daemon.capture.rhythm import KeyframeRhythm
from crow_daemon.capture.sampler import EARLY
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
        after_us: int | None = None,
    ) -> None:
        """Not open yet.

        `after_us` is the capture time of the camera's last frame. Where it lies in the recording, this goes on behind
        that frame's tick; otherwise the frame is of another recording, and this one is read from its start.
        """
        super().__init__(rhythm, clock, keyframes_only=camera.mode is CaptureMode.KEYFRAME)
        self._camera = camera
        self._recording = recording
        self._after_us = after_us
        self._start_at_us: int | None = None
        self._first_us: int | None = None  # stream time of the first picture
        self._last_us = 0
        self._cut_short = False

    def open(self) -> StreamInfo:
        """Opens the file. Raises CrowError."""
        with self._open_container() as container:
            self._look_ahead(container)
        stream = super().open()
        self._start_at_us = self._goes_on_at_us(stream)
        return stream

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order; None stands for one that came damaged, or for the rest of a damaged file."""
        self._skip_ahead()
        began = self._start_at_us is None
        for picture in super().pictures():
            began = began or (picture is not None and picture.capture_us >= (self._start_at_us or 0))
            if began:
                yield picture
        if self._cut_short:
            yield None

    def _open_container(self) -> InputContainer:
        return open_recording(self._recording.path)

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

    def _goes_on_at_us(self, stream: StreamInfo) -> int | None:
        """The capture time to go on at; None to read from the start."""
        interval_us, end_us = self._camera.sample_interval_us, stream.end_us
        if self._after_us is None or self._after_us < self._recording.start_us:
            return None
        if end_us is not None and self._after_us > end_us + interval_us:  # containers tell their length about right
            return None
        tick, into_us = divmod(self._after_us, interval_us)
        # Of pictures a little less than a tick apart, one so late in its tick has been taken for the next one.
        early = self._distance_us(stream) < interval_us and into_us >= interval_us * (1 - EARLY)
        return (tick + 1 + early) * interval_us

    def _distance_us(self, stream: StreamInfo) -> float:
        """How far apart the pictures are that samples are taken from."""
        if self._rhythm.enough and self._rhythm.longest_us is not None:
            return self._rhythm.longest_us
        return 1_000_000 / stream.fps if stream.fps else 0.0

    def _skip_ahead(self) -> None:
        """Goes to a keyframe before the time to start at, where the container finds one; else all is read again."""
        stream_us = self._start_in_stream_us()
        if stream_us is None:
            return
        with self._open_container() as tried:
            found = _is_before(tried, stream_us)
        if found:
            assert self._container is not None, "open comes first"
            _seek(self._container, stream_us)

    def _start_in_stream_us(self) -> int | None:
        if self._start_at_us is None or self._first_us is None:
            return None
        return self._first_us + self._start_at_us - self._recording.start_us

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
        self.why = why or "its keyframes come often enough to be the samples"
        return StreamInfo(
            context.name,
            context.width,
            context.height,
            fps,
            end_us,
            mode="decode" if why else "keyframe",
            why=self.why,
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


def _seek(container: InputContainer, stream_us: int) -> None:
    stream = container.streams.video[0]
    assert stream.time_base is not None
    container.seek(int(stream_us / 1_000_000 / stream.time_base), stream=stream, backward=True)


def _is_before(container: InputContainer, stream_us: int) -> bool:
    """Whether going there leads to a keyframe before it. Containers without an index land anywhere."""
    stream = container.streams.video[0]
    if stream.time_base is None:
        return False
    try:
        _seek(container, stream_us)
        packet = next(container.demux(stream), None)
    except av.FFmpegError:
        return False
    at_us = None if packet is None else microseconds(packet.pts, stream)
    return packet is not None and packet.is_keyframe and at_us is not None and at_us <= stream_us


def open_recording(path: Path) -> InputContainer:
    """Opens a video file, which may open nothing else. Raises CrowError(NOT_FOUND, UNAVAILABLE, UNSUPPORTED)."""
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
