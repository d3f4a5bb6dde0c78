"""Pictures that libav has decoded."""

import av
import numpy as np
from av.video.reformatter import Interpolation

from crow_daemon.capture.source import Bgr, Coded
from crow_daemon.gate.gate import Luma
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource


class LibavPixels:
    """Scaled and converted in one pass when somebody looks.

    By libav, with one thread since many cameras share few cores: that costs a third of what scaling the planes by areas
    with OpenCV does.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        """Of a decoded frame."""
        self._frame = frame

    def bgr(self, width: int, height: int) -> Bgr:
        """Scaled to that size, rows x columns x 3. Raises CrowError(CORRUPT)."""
        return self._converted("bgr24", width, height)

    def luma(self, width: int, height: int) -> Luma:
        """Scaled to that size, rows x columns. Raises CrowError(CORRUPT)."""
        return self._converted("gray", width, height)

    def _converted(self, pixels: str, width: int, height: int) -> Bgr:
        try:
            array = self._frame.to_ndarray(
                format=pixels, width=width, height=height, interpolation=Interpolation.AREA, threads=1
            )
        except (av.FFmpegError, ValueError) as error:
            raise CrowError(Kind.CORRUPT, "picture_unusable", f"a picture cannot be converted: {error}") from None
        return np.asarray(array, dtype=np.uint8)


class DecodedPicture(LibavPixels):
    """A picture out of a stream that is decoded as a whole, and when it was taken."""

    def __init__(
        self, frame: av.VideoFrame, capture_us: int, time_source: TimeSource, clock_skew_us: int | None = None
    ) -> None:
        """A decoded frame and when it was taken."""
        super().__init__(frame)
        self.capture_us = capture_us
        self.time_source = time_source
        self.clock_skew_us = clock_skew_us
        self.coded: Coded | None = None
        self.width = frame.width
        self.height = frame.height
