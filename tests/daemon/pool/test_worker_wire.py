"""What daemon and worker say to each other arrives as it was said; what no worker says is refused."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from camera_rig import LOGIN, rtsp_camera
from conftest import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from crow.capture.v1 import worker_pb2 as pb
from crow.cctv.v1 import frame_pb2
from crow_daemon.capture.outcome import SENT, Dropped, Missed
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import CameraMonitor, CameraState
from crow_daemon.detect.config import DetectorConfig, Provider
from crow_daemon.gate.gate import GateReason
from crow_daemon.ledger.book import Book
from crow_daemon.pool.hearing import MAX_IN_HAND, MAX_SIDE, check_shape, checked_frame, hear, may_be
from crow_daemon.pool.window import ALL_BYTES, FRAMES, LEAST_BYTES, Window
from crow_daemon.registry.camera import Blur, Camera, CaptureMode, GateMode, ReaderChoice, Recording, Transport
from crow_daemon.registry.url import CameraUrl
from crow_daemon.worker.telling_monitor import TellingMonitor
from crow_daemon.worker.wire.camera import camera_from_wire, camera_to_wire, credentials_from_wire, start_order
from crow_daemon.worker.wire.configuration import configure_order, detector_from_wire
from crow_daemon.worker.wire.framing import MAX_EVENTS, MAX_MESSAGE_BYTES, MAX_PICTURES_BYTES, checked_lengths, packed
from crow_shared.clock import Moment
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Frame, TimeSource, to_wire
from crow_shared.zones import Zone, ZoneKind

TRIANGLE = ((0.25, 0.0), (1.0, 0.5), (0.0, 1.0))
STREAM = StreamInfo("h264", 1920, 1080, 25.0, None, "direct", "keyframe", "since it is so")


def full_camera() -> Camera:
    """No field has its default."""
    camera = rtsp_camera(
        "rtsp://camera/1",
        transport=Transport.UDP,
        gate=GateMode.PERSON,
        heartbeat_s=61,
        jpeg_long_side=640,
        jpeg_quality=70,
        motion_ttl_s=2.5,
        pre_roll=False,
        masks=(TRIANGLE,),
        blur=Blur.PEOPLE,
        zones=(Zone("till", ZoneKind.AREA, TRIANGLE), Zone("door", ZoneKind.LINE, TRIANGLE[:2])),
        grid_row=0,
        grid_column=3,
        enabled=False,
        finished=True,
        revision=7,
        mode=CaptureMode.DECODE,
        reader=ReaderChoice.PYAV,
    )
    return replace(camera, source=replace(camera.source, sub_url=CameraUrl.parse("rtsp://camera/2")))


def test_a_camera_arrives_whole() -> None:
    camera = full_camera()
    plain = Camera("plain", "Plain", camera.source)
    same = [field.name for field in fields(Camera) if getattr(camera, field.name) == getattr(plain, field.name)]
    assert same == ["source"], "a field with its default proves nothing"
    recording = Camera("monday", "Monday", Recording(Path("/monday.mp4"), 5))
    for told in (camera, recording, rtsp_camera("rtsps://[::1]:7/x")):
        wire = pb.Camera.FromString(camera_to_wire(told).SerializeToString())
        assert camera_from_wire(wire) == told


def test_a_login_and_the_place_to_go_on_from_arrive_with_the_camera() -> None:
    told = start_order(full_camera(), LOGIN, 0).start_camera
    assert credentials_from_wire(told) == LOGIN
    assert (told.HasField("resume_after_us"), told.resume_after_us) == (True, 0)
    bare = start_order(full_camera(), None, None).start_camera
    assert credentials_from_wire(bare) is None
    assert not bare.HasField("resume_after_us")


@pytest.mark.parametrize("detector", [None, DetectorConfig("/m.onnx", "ab" * 32, Provider.CUDA, 0.25)])
def test_the_detector_s_settings_arrive(detector: DetectorConfig | None) -> None:
    assert detector_from_wire(configure_order("info", 1 << 30, detector).configure) == detector


class Told:
    """A worker's monitor and the daemon's, with the wire between them."""

    def __init__(self, clock: ManualClock, camera: Camera | None = None) -> None:
        self.clock = clock
        self.camera = camera or rtsp_camera("rtsp://camera/1", sample_interval_ms=1000)
        self.account = Book().account(self.camera, Moment.now(clock))
        self.monitor = CameraMonitor(self.camera.id, self.account, clock)
        self.worker = TellingMonitor(self.camera.id, self.tell, clock)

    def tell(self, event: pb.Event) -> None:
        hear(pb.Event.FromString(event.SerializeToString()), self.camera, self.monitor, Moment.now(self.clock))


def test_what_happens_to_a_camera_in_a_worker_is_known_to_the_daemon(clock: ManualClock) -> None:
    told = Told(clock)
    worker, now_us = told.worker, clock.now_us()
    worker.connecting()
    worker.live(STREAM)
    worker.sampled(now_us, 0)
    worker.outcome(now_us, GateReason.NO_ACTIVITY)
    clock.advance(1)
    worker.damaged()
    worker.clock_jumped(2)
    worker.sampled(now_us + 1_000_000, 0, -42_000_000)
    assert told.monitor.snapshot().clock_skew_us == -42_000_000
    worker.outcome(now_us + 1_000_000, Dropped.OVERLOAD)
    worker.sampled(now_us + 1_500_000, 0)
    worker.outcome(now_us + 1_500_000, SENT)
    worker.alert("black")
    snapshot = told.monitor.snapshot()
    assert (snapshot.state, snapshot.stream, snapshot.alert) == (CameraState.LIVE, STREAM, "black")
    assert (snapshot.damaged, snapshot.clock_jumps) == (1, 2)
    assert snapshot.clock_skew_us is None, "it has ceased to tell its time"
    assert snapshot.counters.gated == {GateReason.NO_ACTIVITY: 1}
    assert snapshot.counters.dropped == {Dropped.OVERLOAD: 1}
    assert snapshot.counters.sent == 0, "its frame tells that, not its word"
    worker.alert(None)
    worker.failed(CrowError(Kind.UNAUTHENTICATED, "auth_failed", "wrong\x1b[31m password"))
    snapshot = told.monitor.snapshot()
    assert (snapshot.state, snapshot.alert) == (CameraState.AUTH_FAILED, None)
    assert snapshot.last_error == "wrong[31m password", "nothing that moves a terminal"
    worker.stopped()
    assert told.monitor.snapshot().state is CameraState.STOPPED


def test_what_happened_counts_from_when_it_did_not_from_when_it_is_heard(clock: ManualClock) -> None:
    told, events = Told(clock), []
    told.worker = TellingMonitor(told.camera.id, events.append, clock)
    told.worker.live(STREAM)
    clock.advance(10)
    told.worker.failed(CrowError(Kind.UNAVAILABLE, "stream_lost", "it ended"))
    happened_us = clock.now_us()
    clock.advance(20)
    for heard in events:
        told.tell(heard)
    assert told.monitor.snapshot().since_us == happened_us


def test_a_recording_s_end_is_told_with_the_ticks_that_it_lacks(clock: ManualClock) -> None:
    told = Told(clock, Camera("monday", "Monday", Recording(Path("/monday.mp4"), 0)))
    told.worker.live(replace(STREAM, end_us=9_000_000, fps=None))
    told.worker.sampled(0, 0)
    told.worker.finished(3)
    assert told.monitor.snapshot().state is CameraState.FINISHED
    assert told.monitor.snapshot().counters.expected == 3
    assert told.monitor.snapshot().stream == replace(STREAM, end_us=9_000_000, fps=None)


def event(later_s: float = 0, **what: Any) -> Callable[[ManualClock], pb.Event]:
    return lambda clock: pb.Event(camera_id="till", monotonic_us=round((clock.monotonic_s() + later_s) * 1e6), **what)


@pytest.mark.parametrize(
    "said",
    [
        event(),
        event(outcome=pb.Outcome(capture_us=1, word="lost")),
        event(live=pb.Stream(codec="h264", width=MAX_SIDE + 1, height=1, reader="direct", mode="keyframe")),
        event(live=pb.Stream(codec="h264", width=1, height=1, reader="telepathy", mode="keyframe")),
        event(live=pb.Stream(codec="h264", width=1, height=1, reader="direct", mode="")),
        event(failed=pb.Failure(kind="bad luck", code="x", message="y")),
        event(clock_jumps=1 << 31),
        event(alert="haunted"),
        event(finished=pb.Finished(remaining_ticks=0)),
        event(later_s=1, damaged=pb.Damaged()),
        event(later_s=-3600, damaged=pb.Damaged()),
    ],
)
def test_an_event_that_no_worker_tells_is_refused(said: Callable[[ManualClock], pb.Event], clock: ManualClock) -> None:
    with pytest.raises(CrowError, match="the capture worker sent"):
        Told(clock).tell(said(clock))


def test_a_recording_that_lacks_more_than_any_has_is_refused(clock: ManualClock) -> None:
    told = Told(clock, Camera("monday", "Monday", Recording(Path("/monday.mp4"), 0)))
    with pytest.raises(CrowError, match="beyond all bounds"):
        told.worker.finished(1 << 31)


def test_a_capture_time_that_cannot_be_is_not_taken_and_costs_a_sample_alone(clock: ManualClock) -> None:
    told = Told(clock)
    told.worker.live(STREAM)
    clock.advance(1)
    told.worker.sampled(clock.now_us() + 86_400_000_000, 0)
    told.worker.outcome(clock.now_us() + 86_400_000_000, Dropped.OVERLOAD)
    clock.advance(1)
    told.worker.failed(CrowError(Kind.UNAVAILABLE, "stream_lost", "it ended"))
    assert told.monitor.snapshot().counters.dropped == {Missed.CAMERA_DOWN: 2}
    now = Moment.now(clock)
    assert not may_be(now.wall_us + 86_400_000_000, told.camera, now)
    assert may_be(now.wall_us - 60_000_000, told.camera, now)
    assert may_be(5, Camera("monday", "Monday", Recording(Path("/monday.mp4"), 5)), now)
    assert not may_be(4, Camera("monday", "Monday", Recording(Path("/monday.mp4"), 5)), now)


def test_a_worker_cannot_have_the_daemon_remember_samples_without_end(clock: ManualClock) -> None:
    told = Told(clock)
    told.worker.live(STREAM)
    for number in range(3 * MAX_IN_HAND):
        told.worker.sampled(clock.now_us(), 0)
        if number >= MAX_IN_HAND - 1:
            told.worker.outcome(clock.now_us(), Dropped.OVERLOAD)
    told.worker.sampled(clock.now_us(), 0)
    with pytest.raises(CrowError, match="more samples than outcomes"):
        told.worker.sampled(clock.now_us(), 0)


PICTURE = b"a picture"
FRAME = Frame.of_picture("till", 1, TimeSource.ARRIVAL, 4, 3, PICTURE)
HEADER = to_wire(replace(FRAME, payload=b""))


def header(**changes: Any) -> frame_pb2.Frame:
    changed = frame_pb2.Frame()
    changed.CopyFrom(HEADER)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def test_a_frame_arrives_with_its_picture() -> None:
    assert checked_frame(HEADER, PICTURE, rtsp_camera("rtsp://camera/1")) == FRAME


@pytest.mark.parametrize(
    ("message", "picture"),
    [
        (header(encoding=0), PICTURE),
        (header(encoding=99), PICTURE),
        (header(time_source=0), PICTURE),
        (header(width=0), PICTURE),
        (header(height=MAX_SIDE + 1), PICTURE),
        (header(seq=1), PICTURE),
        (header(payload=b"x"), PICTURE),
        (header(crc32=1), PICTURE),
        (HEADER, b""),
        (HEADER, bytes(MAX_PICTURE_BYTES + 1)),
    ],
)
def test_a_frame_that_is_none_is_refused(message: frame_pb2.Frame, picture: bytes) -> None:
    with pytest.raises(CrowError, match="the capture worker sent"):
        checked_frame(message, picture, rtsp_camera("rtsp://camera/1"))


@pytest.mark.parametrize(("hides", "done"), [({"masks": (TRIANGLE,)}, "masked"), ({"blur": Blur.PEOPLE}, "blurred")])
def test_a_frame_that_shows_what_is_to_be_hidden_is_refused(hides: dict[str, Any], done: str) -> None:
    camera = rtsp_camera("rtsp://camera/1", **hides)
    with pytest.raises(CrowError, match="what is to be hidden"):
        checked_frame(HEADER, PICTURE, camera)
    assert checked_frame(header(**{done: True}), PICTURE, camera).payload == PICTURE


@pytest.mark.parametrize(
    "report",
    [pb.Report(events=[pb.Event()] * (MAX_EVENTS + 1)), pb.Report(frames=[HEADER]), pb.Report(picture_bytes=[1])],
)
def test_a_report_of_another_shape_is_refused(report: pb.Report) -> None:
    with pytest.raises(CrowError, match="the capture worker sent"):
        check_shape(report)


def test_lengths_beyond_their_bounds_are_refused_before_anything_is_read() -> None:
    assert checked_lengths(packed(pb.Report(), 7)[:8]) == (0, 7)
    for lengths in ((MAX_MESSAGE_BYTES + 1, 0), (0, MAX_PICTURES_BYTES + 1)):
        with pytest.raises(CrowError, match="the capture worker sent"):
            checked_lengths(b"".join(length.to_bytes(4, "big") for length in lengths))


class Line:
    has_room, takes_recordings, refusal = True, True, Dropped.OVERLOAD


def test_the_window_opens_again_as_frames_come_and_stays_as_it_is_without_room() -> None:
    line = Line()
    window = Window(line)  # type: ignore[arg-type]
    first = window.credit(1)
    assert first is not None
    assert first.frames == FRAMES
    for _ in range(FRAMES // 2):
        window.take(1000)
    assert window.credit(1) is None
    window.take(1000)
    again = window.credit(1)
    assert again is not None
    assert again.frames == FRAMES // 2 + 1 + FRAMES
    line.has_room, line.refusal = False, Dropped.SPOOL_FULL
    told = window.credit(1)
    assert told is not None
    assert (told.frames, told.refusal) == (again.frames, "spool_full")
    for _ in range(FRAMES):
        window.take(1000)
    assert window.credit(1) is None
    with pytest.raises(CrowError, match="without credit"):
        window.take(1000)


@given(workers=st.integers(1, 200), sizes=st.lists(st.integers(1, MAX_PICTURE_BYTES), max_size=200))
def test_the_largest_picture_always_finds_credit_and_no_window_outgrows_its_share(
    workers: int, sizes: list[int]
) -> None:
    window, frames, taken_bytes = Window(Line()), 0, 0  # type: ignore[arg-type]
    credit = window.credit(workers)
    for size in sizes:
        assert credit is not None
        assert credit.frames > frames
        assert credit.bytes - taken_bytes >= MAX_PICTURE_BYTES
        assert credit.bytes - taken_bytes <= max(LEAST_BYTES, ALL_BYTES // workers)
        window.take(size)
        frames, taken_bytes = frames + 1, taken_bytes + size
        credit = window.credit(workers) or credit
