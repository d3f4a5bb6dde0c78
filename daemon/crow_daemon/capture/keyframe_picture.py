"""A keyframe that is decoded once, and only when somebody looks at it."""

from typing import Protocol

from crow_daemon.capture.source import Bgr, Coded
from crow_daemon.gate.gate import Luma
from crow_shared.errors import CrowError
from crow_shared.frame import TimeSource


class Pixels(Protocol):
    """A decoded picture."""

    def bgr(self, width: int, height: int) -> Bgr:
        """Scaled to that size, rows x columns x 3. Raises CrowError(CORRUPT)."""
        ...

    def luma(self, width: int, height: int) -> Luma:
        """Scaled to that size, rows x columns. Raises CrowError(CORRUPT)."""
        ...


class Decoder(Protocol):
    """Of one stream, used by one thread. `failures` counts the keyframes in a row that could not be decoded."""

    @property
    def failures(self) -> int:
        """See above."""
        ...

    def decode(self, coded: Coded) -> Pixels:
        """The picture. Raises CrowError(CORRUPT) when there is none, or a damaged one."""
        ...


class DecoderOnDemand:
    """Loads libav with the first keyframe that is to be decoded.

    So a process that decodes nothing stays small, and libav never sees the bytes of its cameras.
    """

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._decoder: Decoder | None = None

    @property
    def failures(self) -> int:
        """The keyframes in a row that could not be decoded."""
        return self._decoder.failures if self._decoder else 0

    def decode(self, coded: Coded) -> Pixels:
        """The picture. Raises CrowError(CORRUPT) "keyframe_undecodable" when there is none, or a damaged one."""
        if self._decoder is None:
            from crow_daemon.capture.keyframe_decoder import KeyframeDecoder  # noqa: PLC0415 see the class

            self._decoder = KeyframeDecoder()
        return self._decoder.decode(coded)


class KeyframePicture:
    """A picture of which nothing but the keyframe is there at first.

    A failure to decode it is remembered as well: whoever looks again gets the same CrowError(CORRUPT).
    """

    def __init__(
        self,
        keyframe: Coded,
        decoder: Decoder,
        capture_us: int,
        time_source: TimeSource,
        clock_skew_us: int | None = None,
        *,
        sent_as_it_is: bool,
    ) -> None:
        """`decoder` belongs to the thread that looks at the picture; `sent_as_it_is` makes `coded` the keyframe."""
        self._keyframe = keyframe
        self._decoder = decoder
        self._pixels: Pixels | CrowError | None = None
        self.capture_us = capture_us
        self.time_source = time_source
        self.clock_skew_us = clock_skew_us
        self.coded = keyframe if sent_as_it_is else None
        self.width = keyframe.width
        self.height = keyframe.height

    def bgr(self, width: int, height: int) -> Bgr:
        """Scaled to that size, rows x columns x 3. Raises CrowError(CORRUPT)."""
        return self._decoded().bgr(width, height)

    def luma(self, width: int, height: int) -> Luma:
        """Scaled to that size, rows x columns. Raises CrowError(CORRUPT)."""
        return self._decoded().luma(width, height)

    def _decoded(self) -> Pixels:
        if self._pixels is None:
            try:
                self._pixels = self._decoder.decode(self._keyframe)
            except CrowError as error:
                self._pixels = error
        if isinstance(self._pixels, CrowError):
            raise self._pixels
        return self._pixels
