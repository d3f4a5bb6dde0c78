"""The substream beside the main stream: which of its keyframes the gate sees, and what becomes of one that fails."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from camera_rig import CANARY, USER, CollectingSink, RunningCamera, assert_balanced, eventually, rtsp_camera, write_clip

from crow_daemon.capture import choice
from crow_daemon.capture.choice import StreamMemory
from crow_daemon.capture.source import Bgr, Picture, StreamInfo
from crow_daemon.capture.substream import GatedPicture, Substream
from crow_daemon.gate.gate import Luma
from crow_daemon.registry.camera import Camera, CaptureMode, GateMode, ReaderChoice, RtspAddress
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding, TimeSource
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

SECOND_US = 1_000_000
ADDRESS = RtspAddress(CameraUrl.parse("rtsp://camera/main"), sub_url=CameraUrl.parse("rtsp://camera/sub"))


class Shade:
    """A picture all of one grey, whose capture time is of no clock that anybody knows; None cannot be decoded."""

    time_source = TimeSource.CAMERA
    clock_skew_us = None
    coded = None
    width, height = 32, 24

    def __init__(self, grey: int | None, capture_us: int = 0) -> None:
        self.capture_us = capture_us
        self._grey = grey

    def luma(self, width: int, height: int) -> Luma:
        if self._grey is None:
            raise CrowError(Kind.CORRUPT, "keyframe_undecodable", "it is damaged")
        return np.full((height, width), self._grey, np.uint8)

    def bgr(self, width: int, height: int) -> Bgr:
        raise AssertionError("the gate looks at luma alone")


class HandFedSource:
    """A source of what a test puts in: pictures, and exceptions by which it ends."""

    clock_jumps = 0
    why = ""

    def __init__(self) -> None:
        self.fed: SimpleQueue[Picture | Exception | None] = SimpleQueue()
        self.taken: SimpleQueue[None] = SimpleQueue()
        self.stopped = False

    def open(self) -> StreamInfo:
        return StreamInfo("h264", 32, 24, None)

    def pictures(self) -> Iterator[Picture | None]:
        while True:
            item = self.fed.get()
            if self.stopped:
                return
            if isinstance(item, Exception):
                raise item
            yield item
            self.taken.put(None)

    def feed(self, picture: Picture) -> None:
        """Returns when it was taken."""
        self.fed.put(picture)
        self.taken.get(timeout=10)

    def stop(self) -> None:
        self.stopped = True
        self.fed.put(None)

    def close(self) -> None:
        pass


class HandSetClock(SystemClock):
    """Stands still until it is set; waiting takes no time of it."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


class Rig:
    """A substream of a camera that is sampled once a second."""

    def __init__(self) -> None:
        self.camera = Camera("till", "Till", ADDRESS, gate=GateMode.ACTIVITY)
        self.memory = StreamMemory(self.camera)
        self.clock = HandSetClock()
        self.source = HandFedSource()
        self.substream = Substream(self.camera, self.memory, lambda: self.source, self.clock)

    def keyframe(self, at_s: float, grey: int, capture_us: int = 0) -> None:
        self.clock.now_s = at_s
        self.source.feed(Shade(grey, capture_us))

    def grey_beside(self, arrival_s: float, now_s: float | None = None) -> int | None:
        """The shade that the gate sees beside a picture of the main stream; asked when no keyframe is waited for."""
        self.clock.now_s = arrival_s + 10 if now_s is None else now_s
        seen = self.substream.take_nearest(arrival_s)
        return None if seen is None else int(seen.luma(1, 1)[0, 0])


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.substream.start()
    yield made
    made.substream.stop()
    made.substream.join()


def test_a_keyframe_is_looked_at_once(rig: Rig) -> None:
    rig.keyframe(100.0, 7)
    assert rig.grey_beside(100.1) == 7
    assert rig.grey_beside(100.2) is None


def test_the_nearest_keyframe_is_taken_and_none_from_before_it_later(rig: Rig) -> None:
    for at_s, grey in ((100.0, 1), (100.4, 2), (100.9, 3)):
        rig.keyframe(at_s, grey)
    assert rig.grey_beside(100.5) == 2
    assert rig.grey_beside(100.0) is None, "older than one that was looked at"
    assert rig.grey_beside(100.9) == 3


def test_a_keyframe_more_than_half_a_sample_interval_away_is_stale(rig: Rig) -> None:
    rig.keyframe(100.0, 7)
    assert rig.grey_beside(100.51) is None
    assert rig.grey_beside(100.49) == 7


def test_it_is_arrival_that_counts_whatever_the_two_streams_clocks_say(rig: Rig) -> None:
    rig.keyframe(100.0, 7, capture_us=-3600 * SECOND_US)
    assert rig.grey_beside(100.1) == 7


def test_a_keyframe_that_is_about_to_come_is_waited_for(rig: Rig) -> None:
    rig.keyframe(100.0, 1)
    seen: list[int | None] = []
    waiting = threading.Thread(target=lambda: seen.append(rig.grey_beside(101.0, now_s=101.0)))
    waiting.start()
    rig.keyframe(101.1, 2)
    waiting.join()
    assert seen == [2]


def test_stopping_ends_the_wait_for_a_keyframe(rig: Rig) -> None:
    rig.keyframe(100.0, 1)
    rig.clock.now_s = 101.0
    began_s = time.monotonic()
    threading.Timer(0.05, rig.substream.stop).start()
    assert rig.substream.take_nearest(102.9) is None  # else it would wait 2.4 seconds
    assert time.monotonic() - began_s < 1.5


def test_keyframes_rarer_than_samples_are_a_failure_and_the_reason_is_told(rig: Rig) -> None:
    for number in range(4):
        rig.keyframe(100.0 + 2 * number, number)
    assert rig.memory.why_no_substream is None
    rig.clock.now_s = 108.0
    rig.source.fed.put(Shade(9))
    eventually(lambda: rig.memory.why_no_substream is not None, "told")
    assert rig.memory.why_no_substream == "its keyframes come 2.0 s apart, samples are due every 1 s"
    assert rig.grey_beside(106.0) is None


def test_a_pause_between_frequent_keyframes_is_no_failure(rig: Rig) -> None:
    for at_s in (100.0, 101.0, 102.0, 107.0, 108.0, 109.0, 110.1):
        rig.keyframe(at_s, 5)
    assert rig.memory.why_no_substream is None
    assert rig.grey_beside(110.0) == 5


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (CrowError(Kind.UNAVAILABLE, "stream_lost", "it ended the stream"), "it ended the stream"),
        (ZeroDivisionError(), "a defect: ZeroDivisionError"),
    ],
)
def test_whatever_ends_it_is_told_and_it_is_read_again_after_its_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    monkeypatch.setattr(choice, "RETRY_SUBSTREAM_S", 0.05)
    rig.keyframe(100.0, 1)
    rig.source.fed.put(error)
    eventually(lambda: rig.memory.why_no_substream == why, "told")
    assert rig.grey_beside(100.0) is None, "what came before is stale"
    rig.keyframe(101.0, 2)
    eventually(lambda: rig.memory.why_no_substream is None, "reads again")
    assert rig.grey_beside(101.0) == 2


@pytest.mark.parametrize("seen", [None, Shade(None)])
def test_a_picture_without_a_usable_one_beside_it_is_judged_by_its_own_luma(seen: Picture | None) -> None:
    asked: list[int] = []

    def find_seen() -> Picture | None:
        asked.append(1)
        return seen

    picture = GatedPicture(Shade(50), find_seen)
    assert asked == [], "nobody has looked yet"
    assert [int(picture.luma(1, 1)[0, 0]) for _ in range(2)] == [50, 50]
    assert asked == [1]


def serve(streams: dict[str, Path]) -> ThreadedRtspServer:
    return ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY))


def with_substream(server: RtspServer, main: str, sub: str) -> Camera:
    address = RtspAddress(CameraUrl.parse(server.url(main)), USER, sub_url=CameraUrl.parse(server.url(sub)))
    left_to_choose = {"mode": CaptureMode.AUTO, "reader": ReaderChoice.AUTO}
    fields = {"source": address, "sample_interval_ms": 500, "gate": GateMode.ACTIVITY} | left_to_choose
    return rtsp_camera(server.url(main), **fields)


def why_of(runner: RunningCamera) -> Callable[[], str]:
    return lambda: stream.why if (stream := runner.snapshot().stream) else ""


def test_a_substream_that_fails_and_comes_back_costs_the_main_stream_nothing(
    streams: dict[str, Path], sink: CollectingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "RETRY_SUBSTREAM_S", 0.3)
    with serve(streams) as server, RunningCamera(with_substream(server, "hevc", "h264"), sink) as runner:
        why = why_of(runner)
        sink.wait_for(2)
        server.set_faults("h264", Faults(close_after_s=0))
        eventually(lambda: "the substream fails" in why(), "the loss is told")
        seen = len(sink.frames)
        sink.wait_for(seen + 2)
        server.set_faults("h264", Faults())
        eventually(lambda: why() != "" and "the substream fails" not in why(), "its return is told")
        frames = sink.wait_for(len(sink.frames) + 2)
        assert len([seen for seen in server.requests if seen.method == "PLAY" and "hevc" in seen.url]) == 1
    assert {frame.encoding for frame in frames} == {Encoding.H265}
    assert_balanced(runner, sink)


def test_a_substream_with_rare_keyframes_is_given_up_with_the_reason(
    streams: dict[str, Path], sink: CollectingSink
) -> None:
    rare = write_clip(streams["h264"].with_name("rare-sub.mp4"), "h264", gop_s=1, seconds=4)
    with serve(streams | {"rare": rare}) as server:
        with RunningCamera(with_substream(server, "hevc", "rare"), sink) as runner:
            why = why_of(runner)
            eventually(lambda: "the substream fails: its keyframes come 1.0 s apart" in why(), "the reason is told")
            sink.wait_for(len(sink.frames) + 2)
        assert runner.snapshot().reconnects == 0
    assert_balanced(runner, sink)
