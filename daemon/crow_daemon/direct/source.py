"""Live cameras read without libav: keyframes alone, as they came."""

import threading
from collections.abc import Iterator

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframe_picture import Decoder, KeyframePicture
from crow_daemon.capture.source import StreamInfo
from crow_daemon.direct.failures import unsupported
from crow_daemon.direct.interleaved import InterleavedStream
from crow_daemon.direct.keyframes import Keyframe, KeyframeAssembler
from crow_daemon.direct.reader import KeyframeReader
from crow_daemon.direct.reading import READERS, ReadingThread
from crow_daemon.direct.timeline import Timeline
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.sdp import VideoDescription
from crow_daemon.rtsp.session import RtspSession
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding
from crow_shared.h26x import picture_size

OPEN_TIMEOUT_S = 8.0
_ENCODINGS = {"H264": Encoding.H264, "H265": Encoding.H265}
_CODEC_NAMES = {Encoding.H264: "h264", Encoding.H265: "hevc"}  # as the other reader says them


class DirectSource:
    """One connection to a live camera; see `Source`."""

    why = ""  # whoever chose this reader says it

    def __init__(
        self,
        url: CameraUrl,
        credentials: Credentials | None,
        decoder: Decoder,
        clock: Clock,
        capture_clock: CaptureClock,
        *,
        sent_as_they_are: bool = True,
        readers: ReadingThread = READERS,
    ) -> None:
        """Not connected yet.

        `decoder` is for who looks at a picture; `capture_clock` is the camera's; `sent_as_they_are`: keyframes are the
        frames; `readers` reads it.
        """
        self._readers = readers
        self._url = url
        self._decoder = decoder
        self._clock = clock
        self._sent_as_they_are = sent_as_they_are
        self._stop = threading.Event()
        self._capture_clock = capture_clock
        self._connection = RtspConnection(url, credentials)
        self._session = RtspSession(self._connection)
        self._reader: KeyframeReader | None = None
        self._pictures: Iterator[KeyframePicture | None] = iter(())
        self._early: list[KeyframePicture | None] = []  # that came while the stream was being opened

    def open(self) -> StreamInfo:
        """Connects and lets the camera play. Raises CrowError.

        Where only the stream itself tells the size of its pictures, the first keyframe is waited for.
        """
        if self._url.scheme != "rtsp":
            raise unsupported("it is encrypted")
        self._connection.connect(OPEN_TIMEOUT_S)
        video = self._session.begin()
        if video.packetization_mode > 1 or video.max_don_diff:
            raise unsupported("its NAL units are interleaved")
        encoding = _ENCODINGS[video.codec]
        self._pictures = self._read(encoding, video)
        width, height = picture_size(encoding, video.parameter_sets) or self._size_of_first()
        return StreamInfo(
            _CODEC_NAMES[encoding],
            width,
            height,
            video.fps,
            reader="direct",
            mode="keyframe" if self._sent_as_they_are else "decode",
        )

    def pictures(self) -> Iterator[KeyframePicture | None]:
        """The keyframes in order, until `stop`; None stands for one that came damaged. Raises CrowError."""
        yield from self._early
        yield from self._pictures

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return self._capture_clock.jumps

    def stop(self) -> None:
        """From any thread: ends `open` and `pictures` at once."""
        self._stop.set()
        if reader := self._reader:
            reader.stop()
        self._connection.interrupt()

    def close(self) -> None:
        """Takes leave of the camera and gives everything back."""
        if self._reader is not None:
            self._readers.remove(self._reader)
        self._session.end()
        self._connection.close()

    def _size_of_first(self) -> tuple[int, int]:
        for picture in self._pictures:
            self._early.append(picture)
            if picture is not None:
                return picture.width, picture.height
        raise CrowError(Kind.UNAVAILABLE, "stopped", "the camera is not read any more")

    def _read(self, encoding: Encoding, video: VideoDescription) -> Iterator[KeyframePicture | None]:
        assembler = KeyframeAssembler(encoding, video.payload_type, video.parameter_sets)
        stream = InterleavedStream(assembler, video.payload_type, self._session.channels, self._readers.buffer)
        timeline = Timeline(video.clock_hz)
        self._reader = KeyframeReader(self._session, stream, assembler, timeline, self._clock)
        if self._stop.is_set():  # set before `stop` could know this reader
            return
        self._readers.add(self._reader)
        while (taken := self._reader.take()) is not None:
            keyframe, arrival_us = taken
            yield None if keyframe is None else self._picture(keyframe, arrival_us, stream, timeline)

    def _picture(
        self, keyframe: Keyframe, arrival_us: int, stream: InterleavedStream, timeline: Timeline
    ) -> KeyframePicture:
        stream_us = timeline.place_us(keyframe.ssrc, keyframe.timestamp, arrival_us)
        report = stream.report
        told_us = timeline.us_of(report.ssrc, report.timestamp) if report is not None else None
        if report is not None and told_us is not None:
            self._capture_clock.camera_clock(report.clock_us - told_us)
        capture_us, time_source = self._capture_clock.time_of(stream_us, arrival_us)
        return KeyframePicture(
            keyframe.coded,
            self._decoder,
            capture_us,
            time_source,
            self._capture_clock.skew_us,
            sent_as_it_is=self._sent_as_they_are,
        )
