"""What the tests of capture share: clips, a sink, waiting, and runners against a real RTSP server."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.frame import PictureType

from crow_daemon.capture.choice import StreamMemory
from crow_daemon.capture.chosen_source import source_of
from crow_daemon.capture.outcome import Dropped
from crow_daemon.capture.runner import CameraRunner
from crow_daemon.capture.source import Source
from crow_daemon.capture.state import CameraMonitor, CameraSnapshot
from crow_daemon.ledger.book import Book
from crow_daemon.registry.camera import Camera, CaptureMode, ReaderChoice, RtspAddress, Transport
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import Moment, SystemClock
from crow_shared.frame import Frame

USER = "shop"
CANARY = "c@n:a/ry%40 pass?"  # every character that a URL gives a meaning to
LOGIN = Credentials(USER, Secret(CANARY))
WAIT_S = 25.0


class CollectingSink:
    """Keeps the frames and lets a test wait for them; refuses while told to."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.refusing = False
        self.room: int | None = None  # it takes so many frames, and no more
        self._changed = threading.Condition()

    refusal = Dropped.SPOOL_FULL

    def offer(self, frame: Frame) -> bool:
        if self.refusing or len(self.frames) == self.room:
            return False
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()
        return True

    def last_capture_us(self, camera_id: str) -> int | None:
        mine = [frame.capture_us for frame in self.frames if frame.camera_id == camera_id]
        return mine[-1] if mine else None

    def wait_for(self, count: int) -> list[Frame]:
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.frames) >= count, WAIT_S)
            assert came, f"only {len(self.frames)} frames came"
            return list(self.frames)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for a state that has no event to wait for."""
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_s, f"never came true: {what}"
        time.sleep(0.01)


def write_clip(
    path: Path,
    codec: str,
    *,
    seconds: float = 4,
    gop_s: float = 0.5,
    fps: int = 10,
    moving: bool = True,
    size: tuple[int, int] = (320, 240),
    keyframes_at_s: tuple[float, ...] = (),
) -> Path:
    """A square that moves over a grey ground; keyframes come every `gop_s`, or at the times given."""
    width, height = size
    encoder = {"h264": "libx264", "hevc": "libx265"}.get(codec, codec)
    options = {"preset": "ultrafast", "tune": "zerolatency"} if encoder.startswith("lib") else {}
    if encoder == "libx265":
        options["x265-params"] = "log-level=none:pools=1"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 1000 if keyframes_at_s else max(1, round(gop_s * fps))
        for number in range(round(seconds * fps)):
            picture = np.full((height, width, 3), 90, np.uint8)
            left = number * 7 % 280
            if moving:
                picture[60:100, left : left + 40] = (40, 200, 220)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            if number / fps in keyframes_at_s:
                frame.pict_type = PictureType.I
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def rtsp_camera(url: str, *, transport: Transport = Transport.TCP, **fields: Any) -> Camera:
    """A camera that is sampled five times a second: too often for its keyframes, so it is decoded, by libav."""
    address = RtspAddress(CameraUrl.parse(url), USER, transport)
    usual = {"sample_interval_ms": 200, "mode": CaptureMode.DECODE, "reader": ReaderChoice.PYAV}
    return Camera(**{"id": "till", "name": "Till", "source": address} | usual | fields)


class RunningCamera(CameraRunner):
    """A runner with real parts and short waits between attempts, stopped at the end of the `with`."""

    def __init__(self, camera: Camera, sink: CollectingSink, login: Credentials | None = LOGIN) -> None:
        clock = SystemClock()
        self._told = CameraMonitor(camera.id, Book().account(camera, Moment.now(clock)), clock)
        memory = StreamMemory(camera)

        def open_source() -> Source:
            return source_of(camera, login, clock, memory, sink.last_capture_us(camera.id))

        super().__init__(camera, open_source, sink, self._told, clock, reconnect_s=(0.05, 0.2))

    def snapshot(self) -> CameraSnapshot:
        """What the camera is doing now."""
        return self._told.snapshot()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.join(WAIT_S), "the capture thread did not end"


def assert_balanced(camera: RunningCamera, sink: CollectingSink) -> None:
    """The ledger's invariants, checked against what really arrived; the camera is stopped."""
    counters = camera.snapshot().counters
    assert counters.expected == counters.sent + sum(counters.gated.values()) + sum(counters.dropped.values())
    assert counters.sent == len(sink.frames)
