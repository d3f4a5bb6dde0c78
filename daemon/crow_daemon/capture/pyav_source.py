"""What is read with libav: what live cameras and recordings have in common.

Invariants
1. No text of libav's leaves these modules: its exceptions hold the URL, and with it the password.
2. A container is used by one thread. Closing it from another one crashes the process, so `stop` only raises a flag
   that is seen after each packet, and at the latest when the read times out.
3. A packet that cannot be decoded is damage, and so is every picture from there to the next whole keyframe, since they
   are made from one another. Packets without a whole picture for long are a lost stream (a camera that changed its
   codec gives errors for ever).
4. A keyframe that is taken by itself is not decoded here: whoever looks at its picture does that.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeAlias

import av
import av.logging
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.stream import VideoStream

from crow_daemon.capture.keyframe_picture import DecoderOnDemand, KeyframePicture
from crow_daemon.capture.pyav_coded import KeyframePackets
from crow_daemon.capture.pyav_pixels import DecodedPicture
from crow_daemon.capture.rhythm import KeyframeRhythm
from crow_daemon.capture.source import StreamInfo
from crow_daemon.rtsp.failures import FIRST_KEYFRAME_S
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

av.logging.set_level(None)  # its log lines hold passwords, and logging from decoder threads can deadlock

MIN_PATIENCE_S = 5.0  # later: this, or twice the longest distance of keyframes
_UNUSABLE_KEYFRAMES = 2  # so many in a row, and the stream is not one whose keyframes stand for themselves

Packet: TypeAlias = "av.Packet[VideoStream]"
Stamp = tuple[int, TimeSource, int | None]  # capture time, where from, the camera clock's skew; microseconds
PyavPicture = DecodedPicture | KeyframePicture


class PyavSource(ABC):
    """Takes keyframes by themselves while `rhythm` says that they are enough, else decodes the whole stream."""

    def __init__(
        self, rhythm: KeyframeRhythm, clock: Clock, *, keyframes_only: bool = False, sent_as_they_are: bool = False
    ) -> None:
        """Not open yet.

        `keyframes_only` leaves the rest of the stream undecoded whatever the rhythm; `sent_as_they_are` gives pictures
        of keyframes their `coded`.
        """
        self.why = ""
        self._rhythm = rhythm
        self._clock = clock
        self._keyframes_only = keyframes_only
        self._sent_as_they_are = sent_as_they_are
        self._stop = threading.Event()
        self._container: InputContainer | None = None
        self._keyframes: KeyframePackets | None = None
        self._decoder = DecoderOnDemand()
        self._pictures = False  # whole ones have come
        self._unusable = 0  # keyframes in a row that did not stand for themselves
        self._follows = True  # the stream's own decoder gets every packet
        self._whole = True  # no damage since the last keyframe that decoder got

    def open(self) -> StreamInfo:
        """Connects and finds the video stream. Raises CrowError."""
        self._container = self._open_container()
        if not self._container.streams.video:
            raise CrowError(Kind.UNSUPPORTED, "no_video", f"{self._where()} has no video")
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = ThreadType.NONE
        self._keyframes = KeyframePackets.of(stream)
        self._rhythm.connected(stream.codec_context.name)
        return self._describe(stream)

    def pictures(self) -> Iterator[PyavPicture | None]:
        """The pictures in order, until `stop`; None stands for one that came damaged. Raises CrowError."""
        assert self._container is not None, "open comes first"
        stream = self._container.streams.video[0]
        whole_s = self._clock.monotonic_s()
        for packet in self._packets(self._container, stream):
            for picture in self._pictures_of(stream, packet):
                if picture is not None:
                    self._pictures, whole_s = True, self._clock.monotonic_s()
                yield picture
            if self._clock.monotonic_s() - whole_s > self._patience_s():
                self._undecodable()

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return 0

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
    def _stamp(self, stream_us: int | None) -> Stamp:
        """When a picture of that stream time was taken."""

    @abstractmethod
    def _came(self, packet: Packet, stream_us: int | None) -> None:
        """A packet is to be used: what it says beside its picture is taken from it."""

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
        if not self._pictures:
            return FIRST_KEYFRAME_S
        return max(MIN_PATIENCE_S, 2 * (self._rhythm.longest_us or 0) / 1_000_000)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
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

    def _pictures_of(self, stream: VideoStream, packet: Packet) -> Iterator[PyavPicture | None]:
        stream_us = microseconds(packet.pts, stream)
        if not packet.is_keyframe:
            if self._follows:
                self._came(packet, stream_us)
                yield from self._decoded(stream, packet)
            return
        self._came(packet, stream_us)
        self._rhythm.keyframe(stream_us)
        if self._keyframes is None or not (self._keyframes_only or self._rhythm.enough):
            self._follows = self._whole = True
            yield from self._decoded(stream, packet)
            return
        if self._follows:
            yield from self._decoded(stream, None)  # what the decoder still holds of the stream before
            stream.codec_context.flush_buffers()
            self._follows = False
        yield self._alone(self._keyframes, packet, stream_us)

    def _alone(self, keyframes: KeyframePackets, packet: Packet, stream_us: int | None) -> KeyframePicture | None:
        if self._decoder.failures >= _UNUSABLE_KEYFRAMES:
            self._rhythm.cannot_serve("decode to nothing")
        try:
            keyframe = keyframes.coded(packet)
        except CrowError as error:
            self._unusable += 1
            if self._unusable >= _UNUSABLE_KEYFRAMES:
                self._rhythm.cannot_serve(f"cannot be sent as they are ({error.message})")
            return None
        self._unusable = 0
        stamp = self._stamp(stream_us)
        return KeyframePicture(keyframe, self._decoder, *stamp, sent_as_it_is=self._sent_as_they_are)

    def _decoded(self, stream: VideoStream, packet: "Packet | None") -> Iterator[DecodedPicture | None]:
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            self._whole = False
            yield None
            return
        for frame in frames:
            self._whole = self._whole and not frame.is_corrupt
            yield DecodedPicture(frame, *self._stamp(microseconds(frame.pts, stream))) if self._whole else None


def microseconds(pts: int | None, stream: VideoStream) -> int | None:
    """A timestamp of a stream in microseconds; None without one."""
    return None if pts is None or stream.time_base is None else int(pts * stream.time_base * 1_000_000)
