"""What a camera's capture needs from the thing that reads pictures, and from the thing that takes frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from crow_daemon.capture.outcome import Dropped
from crow_daemon.gate.gate import Luma
from crow_shared.frame import Encoding, Frame, TimeSource

Bgr = NDArray[np.uint8]  # rows x columns x 3


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source says about itself when it opens. `fps` is None when unknown.

    `end_us` is the capture time at which a recording ends, None for a live camera. `reader` is what reads the stream,
    `mode` what its frames are made of; `why` says in one sentence how these two came about.
    """

    codec: str
    width: int
    height: int
    fps: float | None
    end_us: int | None = None
    reader: Literal["direct", "pyav"] = "pyav"
    mode: Literal["keyframe", "decode"] = "decode"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Coded:
    """A keyframe as the camera sent it: an Annex B access unit, parameter sets first, that decodes alone.

    `width` and `height` are in pixels, as it decodes.
    """

    encoding: Encoding
    payload: bytes
    width: int
    height: int


class Picture(Protocol):
    """A picture that is decoded and converted only when somebody looks at it."""

    @property
    def capture_us(self) -> int:
        """Microseconds since the Unix epoch."""
        ...

    @property
    def time_source(self) -> TimeSource:
        """Where `capture_us` comes from."""
        ...

    @property
    def clock_skew_us(self) -> int | None:
        """By how much the camera's clock is ahead of ours, in microseconds; None where it tells no time."""
        ...

    @property
    def coded(self) -> Coded | None:
        """The keyframe to send as it is; None when the picture is to be coded here."""
        ...

    @property
    def width(self) -> int:
        """In pixels."""
        ...

    @property
    def height(self) -> int:
        """In pixels."""
        ...

    def bgr(self, width: int, height: int) -> Bgr:
        """Scaled to that size, in colour. Raises CrowError(CORRUPT) when it cannot be converted."""
        ...

    def luma(self, width: int, height: int) -> Luma:
        """Scaled to that size, in grey. Raises CrowError(CORRUPT) when it cannot be converted."""
        ...


class Source(Protocol):
    """One attempt at reading a camera: opened once, read once, closed. Used by one thread, `stop` excepted."""

    def open(self) -> StreamInfo:
        """Connects. Raises CrowError of the kind that tells why it cannot."""
        ...

    def pictures(self) -> Iterator[Picture | None]:
        """The pictures in order, until `stop`; None stands for one that came damaged.

        Raises CrowError when a live stream ends or stalls; a recording just ends.
        """
        ...

    @property
    def clock_jumps(self) -> int:
        """How often the stream's time parted from ours and was set anew."""
        ...

    @property
    def why(self) -> str:
        """As `StreamInfo.why`; it may become another one while pictures come."""
        ...

    def stop(self) -> None:
        """From any thread: ends `open` and `pictures`, at the latest when their current wait times out."""
        ...

    def close(self) -> None:
        """Gives everything back."""
        ...


class FrameSink(Protocol):
    """Where frames go. Called from the threads of all cameras."""

    def offer(self, frame: Frame) -> bool:
        """Takes the frame over, or returns False at once when there is no room for it."""
        ...

    @property
    def refusal(self) -> Dropped:
        """Why `offer` says no at present."""
        ...
