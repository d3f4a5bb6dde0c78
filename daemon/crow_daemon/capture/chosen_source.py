"""A live camera read in the way that is chosen now, until another one fits.

Invariants
1. A connection is made in one way, which its `StreamInfo` tells. When another one fits, it ends with the CrowError
   "mode_changed", which is no failure: the next connection, made at once, is the other one.
2. What a connection shows goes into the camera's `StreamMemory` before that error is raised.
3. The substream only ever adds to the main stream: whatever becomes of it, pictures keep coming. It is started and
   stopped within the connection, and `why` says while it fails.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from crow_daemon.capture.choice import MODE_CHANGED, StreamMemory, choose
from crow_daemon.capture.keyframe_picture import DecoderOnDemand
from crow_daemon.capture.source import Picture, Source, StreamInfo
from crow_daemon.capture.substream import GatedPicture, Substream
from crow_daemon.direct.failures import DIRECT_UNSUPPORTED
from crow_daemon.direct.source import DirectSource
from crow_daemon.registry.camera import Blur, Camera, CaptureMode, GateMode, ReaderChoice, Recording, RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.rtsp.failures import STREAM_UNDECODABLE
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

_UNDECODABLE_KEYFRAMES = 2  # so many in a row, and they do not decode alone
_RECONSIDERED_EVERY_S = 1.0


class ChosenSource:
    """One connection to a live camera."""

    def __init__(
        self,
        camera: Camera,
        address: RtspAddress,
        credentials: Credentials | None,
        memory: StreamMemory,
        clock: Clock,
    ) -> None:
        """Not connected yet. `memory` is that of all connections to this camera."""
        self._camera = camera
        self._address = address
        self._memory = memory
        self._clock = clock
        self._credentials = credentials
        memory.connecting(clock.monotonic_s())
        self._choice = choose(camera, address, memory)
        self._decoder = DecoderOnDemand()
        self._source = self._reading()
        self._substream: Substream | None = None

    def open(self) -> StreamInfo:
        """Connects. Raises CrowError."""
        self._memory.capture_clock.connected()
        try:
            stream = self._source.open()
        except CrowError as error:
            raise self._learned(error) from None
        if self._choice.reader == "direct":
            self._memory.rhythm.connected(stream.codec)
        self._follow_substream()
        return replace(stream, reader=self._choice.reader, mode=self._choice.mode, why=self._choice.why)

    def pictures(self) -> Iterator[Picture | None]:
        """The pictures in order; None stands for one that came damaged. Raises CrowError."""
        reconsidered_s = self._clock.monotonic_s()
        try:
            for picture in self._source.pictures():
                yield self._as_chosen(picture)
                if self._clock.monotonic_s() - reconsidered_s >= _RECONSIDERED_EVERY_S:
                    reconsidered_s = self._clock.monotonic_s()
                    self._reconsider()
                    self._follow_substream()
        except CrowError as error:
            raise self._learned(error) from None

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        return self._source.clock_jumps

    @property
    def why(self) -> str:
        """Why it is read in this way, in a sentence."""
        return self._choice.why

    def stop(self) -> None:
        """From any thread."""
        self._source.stop()
        if substream := self._substream:
            substream.stop()

    def close(self) -> None:
        """Gives everything back."""
        self._source.close()
        self._end_substream()

    def _reading(self) -> Source:
        address, memory, keyframe = self._address, self._memory, self._choice.mode == "keyframe"
        times = self._clock, memory.capture_clock
        if self._choice.reader == "direct":
            return DirectSource(address.url, self._credentials, self._decoder, *times, sent_as_they_are=keyframe)
        from crow_daemon.capture.rtsp_source import RtspSource  # noqa: PLC0415 loads libav, which `direct` never needs

        return RtspSource(address, self._credentials, memory.rhythm, *times, keyframes=keyframe)

    def _as_chosen(self, picture: Picture | None) -> Picture | None:
        if self._choice.reader == "direct":
            self._learn_rhythm(picture)
        if picture is None or self._substream is None:
            return picture
        return GatedPicture(picture, partial(self._substream.take_nearest, self._clock.monotonic_s()))

    def _learn_rhythm(self, picture: Picture | None) -> None:
        """From the direct reader's pictures, which are its keyframes."""
        if picture is None:
            self._memory.rhythm.hole()
            return
        self._memory.rhythm.keyframe(picture.capture_us)
        if self._decoder.failures >= _UNDECODABLE_KEYFRAMES:
            self._memory.rhythm.cannot_serve("decode to nothing")

    def _reconsider(self) -> None:
        fits = choose(self._camera, self._address, self._memory)
        if not fits.alike(self._choice):
            raise CrowError(Kind.UNAVAILABLE, MODE_CHANGED, f"read in another way from now on: {fits.why}")
        self._choice = fits

    def _follow_substream(self) -> None:
        """Starts and ends it as is chosen."""
        if not self._choice.substream:
            self._end_substream()
        elif self._substream is None and self._address.sub_url is not None:
            gated = _keyframes_of_substream(
                self._camera, replace(self._address, url=self._address.sub_url, sub_url=None)
            )
            open_source = partial(source_of, gated, self._credentials, self._clock, StreamMemory(gated))
            self._substream = Substream(self._camera, self._memory, open_source, self._clock)
            self._substream.start()

    def _end_substream(self) -> None:
        if self._substream is not None:
            self._substream.stop()
            self._substream.join()
            self._substream = None

    def _learned(self, error: CrowError) -> CrowError:
        """What to raise for it: the same, or that another way fits."""
        if error.code == DIRECT_UNSUPPORTED and self._camera.reader is ReaderChoice.AUTO:
            self._memory.direct_failed(error.message, self._clock.monotonic_s())
        elif error.code != STREAM_UNDECODABLE:
            return error
        try:
            self._reconsider()
        except CrowError as changed:
            return changed
        return error


def source_of(
    camera: Camera,
    credentials: Credentials | None,
    clock: Clock,
    memory: StreamMemory | None = None,
    after_us: int | None = None,
) -> Source:
    """A fresh source for one attempt at reading a camera; `memory` is what its earlier connections have shown.

    `after_us` is the capture time of the camera's last frame, behind which an interrupted recording goes on.
    """
    memory = memory or StreamMemory(camera)
    match camera.source:
        case RtspAddress() as address:
            return ChosenSource(camera, address, credentials, memory, clock)
        case Recording() as recording:
            from crow_daemon.capture.recording_source import RecordingSource  # noqa: PLC0415 loads libav

            return RecordingSource(camera, recording, memory.rhythm, clock, after_us)


def _keyframes_of_substream(camera: Camera, address: RtspAddress) -> Camera:
    """The substream as a camera of its own, of which every keyframe is wanted."""
    return replace(
        camera, source=address, mode=CaptureMode.KEYFRAME, gate=GateMode.OFF, masks=(), blur=Blur.OFF, zones=()
    )
