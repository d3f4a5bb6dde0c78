"""What the tests of the direct reader share: sources against a real RTSP server, and what libav says of keyframes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from camera_rig import LOGIN

from crow_daemon.capture.keyframe_picture import DecoderOnDemand, KeyframePicture
from crow_daemon.direct.reading import ReadingThread
from crow_daemon.direct.source import DirectSource
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock

DECODERS = {"h264": "h264", "h265": "hevc"}


@contextmanager
def reading(url: str, login: Credentials | None = LOGIN) -> Iterator[DirectSource]:
    """A source that is not open yet, closed at the end, with a reading thread of its own."""
    source = DirectSource(CameraUrl.parse(url), login, DecoderOnDemand(), SystemClock(), readers=ReadingThread())
    try:
        yield source
    finally:
        source.stop()
        source.close()


def pictures_of(source: DirectSource, count: int) -> list[KeyframePicture | None]:
    """The first pictures of an open source, None for damaged ones."""
    pictures = []
    for picture in source.pictures():
        pictures.append(picture)
        if len(pictures) == count:
            break
    return pictures


def keyframes_of(path: Path) -> list[np.ndarray]:
    """The luma of every keyframe of a file, decoded within its stream; height x width."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0) if frame.key_frame]


def decoded_alone(encoding: str, payload: bytes) -> np.ndarray:
    """The luma of a keyframe, by a decoder that has seen nothing else; height x width."""
    context = av.CodecContext.create(DECODERS[encoding], "r")
    context.thread_count, context.thread_type = 1, "NONE"
    (frame,) = [*context.decode(av.Packet(payload)), *context.decode(None)]
    return frame.to_ndarray(format="gray")


def in_time(condition: threading.Event, within_s: float = 10.0) -> None:
    assert condition.wait(within_s), "it did not come to pass"


def seconds_taken(began_s: float) -> float:
    return time.monotonic() - began_s
