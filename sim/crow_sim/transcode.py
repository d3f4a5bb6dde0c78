"""Any footage as a camera would send it: H.264, a key frame a second, no B-frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from crow_shared.errors import CrowError, Kind
from crow_sim.encode import encode

SLOWEST_FPS, FASTEST_FPS = 5.0, 25.0  # a slower clip's pictures are repeated, as a camera repeats a still scene
FALLBACK_FPS = 15.0


def transcode_for_serving(source: Path, target: Path, max_seconds: float = 600.0) -> None:
    """Writes at most `max_seconds` of `source`, whatever PyAV reads, to an MP4 that `RtspServer` can serve.

    Pictures keep their times after the first; odd sizes lose a row or column. Raises CrowError(INVALID) for what holds
    no video, and what `encode` raises.
    """
    with _reading(source), av.open(str(source)) as container:
        if not container.streams.video:
            raise CrowError(Kind.INVALID, "no_video", f"{source} holds no video")
        rate = container.streams.video[0].average_rate
        fps = min(max(float(rate or FALLBACK_FPS), SLOWEST_FPS), FASTEST_FPS)
        encode(target, _at_rate(source, container, fps, round(max_seconds * fps)), fps)


def _at_rate(
    source: Path, container: av.container.InputContainer, fps: float, most_ticks: int
) -> Iterator[NDArray[np.uint8]]:
    """The picture that shows at each tick of the output."""
    tick = 0
    start_s: float | None = None
    shown: NDArray[np.uint8] | None = None
    with _reading(source):
        for number, frame in enumerate(container.decode(video=0)):
            time_s = frame.time if frame.time is not None else number / fps
            start_s = time_s if start_s is None else start_s
            # The nearest tick, not the next: containers round times to their clocks.
            due_tick = min(round((time_s - start_s) * fps), most_ticks)
            while shown is not None and tick < due_tick:
                yield shown
                tick += 1
            if tick == most_ticks:
                return
            picture = frame.to_ndarray(format="bgr24")
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            shown = np.ascontiguousarray(picture[:height, :width], dtype=np.uint8)
    if shown is None:
        raise CrowError(Kind.INVALID, "no_video", f"{source} holds no pictures")
    yield shown


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise CrowError(Kind.INVALID, "no_video", f"{source} cannot be read as video: {error.strerror}") from None
