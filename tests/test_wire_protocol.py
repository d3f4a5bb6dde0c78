"""Both ends of the wire protocol against each other, with connections lost at any moment and either side restarted.

The cores are free of I/O, so that a model can drive them: messages are delivered one by one, lost with the connection,
and never reordered within it (gRPC keeps the order). A wrong variant is kept as control: the model must catch it.
"""

from collections import deque
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.protocol import Announced, HelloCamera, Identity, Released, SenderProtocol
from crow_receiver.ingest.protocol import ReceiverProtocol
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame, TimeSource

IDENTITY = Identity("org", "site", "daemon", "epoch", "0")
CAMERAS = ("a", "b")
WINDOW = 4


def frame(camera_id: str, seq: int) -> Frame:
    return replace(Frame.of_picture(camera_id, seq, TimeSource.ARRIVAL, 1, 1, b"x"), seq=seq)


def hello_camera(camera_id: str, last_seq: int, acked_seq: int) -> HelloCamera:
    return HelloCamera(Announced(camera_id, camera_id, 1000), last_seq, acked_seq)


class Line(RuleBasedStateMachine):
    """A daemon and a receiver with what each keeps on disk, and the connection between them."""

    acknowledge_before_commit = False

    def __init__(self) -> None:
        super().__init__()
        self.spooled: dict[str, list[int]] = {camera: [] for camera in CAMERAS}  # the daemon's disk
        self.last = dict.fromkeys(CAMERAS, 0)
        self.acked = dict.fromkeys(CAMERAS, 0)
        self.let_go: set[tuple[str, int]] = set()
        self.holes: list[Hole] = []
        self.stored: list[tuple[str, int]] = []  # the receiver's disk
        self.missing: set[tuple[str, int]] = set()
        self.position = dict.fromkeys(CAMERAS, 0)
        self.connected = False

    @rule(camera=st.sampled_from(CAMERAS))
    def capture(self, camera: str) -> None:
        self.last[camera] += 1
        self.spooled[camera].append(self.last[camera])

    @rule(camera=st.sampled_from(CAMERAS))
    def spool_lets_the_oldest_go(self, camera: str) -> None:
        if self.spooled[camera]:
            seq = self.spooled[camera].pop(0)
            self.let_go.add((camera, seq))
            self.holes.append(Hole(camera, seq, seq, HoleReason.SPOOL_FULL, ""))

    @rule()
    def connect(self) -> None:
        hello_cameras = [hello_camera(camera, self.last[camera], self.acked[camera]) for camera in CAMERAS]
        self.sender = SenderProtocol(IDENTITY, hello_cameras, LinkWindow(), lambda: 0.0)
        self.receiver = ReceiverProtocol(WINDOW, WINDOW)
        self.up: deque[pb.StreamFramesRequest] = deque()
        self.down: deque[pb.StreamFramesResponse] = deque()
        self.uncommitted: list[pb.StreamFramesRequest] = []
        hello = self.sender.hello().hello
        for camera in hello.cameras:
            self.position[camera.camera_id] = max(self.position[camera.camera_id], camera.acked_seq)
        self.release(self.sender.welcomed(self.receiver.welcome(self.position)))
        self.connected = True

    @rule()
    def lose_the_connection(self) -> None:
        """Also what a kill of either side does: nothing but the disks remains."""
        self.connected = False

    @precondition(lambda self: self.connected)
    @rule(moves=st.lists(st.sampled_from(["send", "arrive", "send arrive", "commit", "ack hear", "hear"]), max_size=20))
    def pump(self, moves: list[str]) -> None:
        for step in " ".join(moves).split():
            getattr(self, step)()
            self.every_number_is_somewhere()

    def send(self) -> None:
        for camera in CAMERAS:
            for seq in self.spooled[camera]:
                expected = self.sender.next_seq(camera)
                assert expected is not None
                if seq >= expected and self.sender.room:
                    holes = [hole for hole in self.holes if hole.camera_id == camera and expected <= hole.to_seq < seq]
                    self.up.extend(self.sender.send(frame(camera, seq), holes))
                    return

    def arrive(self) -> None:
        if not self.up:
            return
        message = self.up.popleft()
        taken = (
            self.receiver.take_frame(message.frame)
            if message.HasField("frame")
            else self.receiver.take_gap(message.gap)
        )
        if taken:
            self.uncommitted.append(message)
            if self.acknowledge_before_commit and message.HasField("frame"):
                self.receiver.durable(message.frame.camera_id, message.frame.seq, 1)

    def commit(self) -> None:
        for message in self.uncommitted:
            if message.HasField("frame"):
                camera, seq = message.frame.camera_id, message.frame.seq
                self.stored.append((camera, seq))
                self.position[camera] = seq
                if not self.acknowledge_before_commit:
                    self.receiver.durable(camera, seq, 1)
            else:
                gap = message.gap
                self.missing |= {(gap.camera_id, seq) for seq in range(gap.from_seq, gap.to_seq + 1)}
                self.position[gap.camera_id] = gap.to_seq
                self.receiver.durable(gap.camera_id, gap.to_seq, 0)
        self.uncommitted.clear()

    def ack(self) -> None:
        if self.receiver.unacknowledged:
            self.down.append(self.receiver.ack())

    def hear(self) -> None:
        if self.down:
            self.release(self.sender.received(self.down.popleft()))

    def release(self, events: list[object]) -> None:
        for event in events:
            assert isinstance(event, Released)
            self.acked[event.camera_id] = event.through_seq
            kept = [seq for seq in self.spooled[event.camera_id] if seq > event.through_seq]
            self.spooled[event.camera_id] = kept

    @invariant()
    def every_number_is_somewhere(self) -> None:
        stored = set(self.stored)
        for camera in CAMERAS:
            for seq in range(1, self.last[camera] + 1):
                place = (camera, seq)
                assert place in stored or seq in self.spooled[camera] or place in self.let_go, f"{place} is lost"

    @invariant()
    def nothing_is_stored_twice_or_out_of_order(self) -> None:
        for camera in CAMERAS:
            numbers = [seq for name, seq in self.stored if name == camera]
            assert numbers == sorted(set(numbers))

    @invariant()
    def what_the_receiver_passed_over_it_was_told_of(self) -> None:
        told = set(self.stored) | self.missing
        for camera in CAMERAS:
            assert all((camera, seq) in told for seq in range(1, self.position[camera] + 1))

    def teardown(self) -> None:
        """Given a connection that lasts, everything arrives."""
        self.connect()
        for _ in range(sum(self.last.values()) * 2 + 4):
            self.pump(["send", "arrive", "commit", "ack", "hear"])
        assert not any(self.spooled.values())
        self.every_number_is_somewhere()
        self.nothing_is_stored_twice_or_out_of_order()


Line.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_nothing_is_lost_or_doubled_whatever_breaks = Line.TestCase


class AcknowledgesTooEarly(Line):
    acknowledge_before_commit = True


def test_the_model_catches_an_acknowledgement_before_the_commit() -> None:
    """The control: a harness that cannot fail proves nothing."""
    quick = settings(max_examples=300, stateful_step_count=30, deadline=None, database=None, print_blob=False,
                     suppress_health_check=list(HealthCheck), report_multiple_bugs=False)  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(AcknowledgesTooEarly, settings=quick)


def welcomed(**positions: int) -> ReceiverProtocol:
    protocol = ReceiverProtocol(WINDOW, WINDOW)
    protocol.welcome(positions)
    return protocol


def wire(camera_id: str, seq: int) -> pb.StreamFramesRequest:
    return pb.StreamFramesRequest(frame={"camera_id": camera_id, "seq": seq})


def test_an_acknowledgement_is_pressing_once_a_quarter_of_the_window_is_durable() -> None:
    receiver = ReceiverProtocol(8, 8)
    receiver.welcome({"a": 0})
    for seq in range(1, 5):
        receiver.take_frame(wire("a", seq).frame)
        receiver.durable("a", seq, frames=1)
        assert receiver.ack_is_pressing is (seq % 2 == 0)
        if receiver.ack_is_pressing:
            receiver.ack()


def test_a_frame_sent_twice_is_taken_once() -> None:
    receiver = welcomed(a=0)
    assert receiver.take_frame(wire("a", 1).frame)
    assert not receiver.take_frame(wire("a", 1).frame)


def test_a_hole_in_the_numbers_is_refused() -> None:
    with pytest.raises(CrowError, match="jumps from 0 to 2"):
        welcomed(a=0).take_frame(wire("a", 2).frame)


def test_a_camera_that_was_not_announced_is_refused() -> None:
    with pytest.raises(CrowError) as caught:
        welcomed(a=0).take_frame(wire("b", 1).frame)
    assert caught.value.kind is Kind.NOT_FOUND


def test_more_than_the_window_is_refused() -> None:
    receiver = welcomed(a=0)
    for seq in range(1, WINDOW + 1):
        receiver.take_frame(wire("a", seq).frame)
    with pytest.raises(CrowError, match="more than 4 frames under way"):
        receiver.take_frame(wire("a", WINDOW + 1).frame)


def test_numbers_that_nothing_explains_become_a_gap_without_reason() -> None:
    sender = SenderProtocol(IDENTITY, [hello_camera("a", 5, 0)], LinkWindow(), lambda: 0.0)
    sender.welcomed(ReceiverProtocol(WINDOW, WINDOW).welcome({"a": 0}))
    gap, sent = sender.send(frame("a", 5), [Hole("a", 2, 3, HoleReason.CORRUPT, "")])[:1], sender
    assert sent.next_seq("a") == 6
    assert gap[0].gap.reason == pb.GAP_REASON_UNSPECIFIED
    assert (gap[0].gap.from_seq, gap[0].gap.to_seq) == (1, 1)


def test_a_receiver_that_remembers_less_does_not_move_the_daemon_back() -> None:
    sender = SenderProtocol(IDENTITY, [hello_camera("a", 9, 7)], LinkWindow(), lambda: 0.0)
    assert sender.welcomed(ReceiverProtocol(WINDOW, WINDOW).welcome({"a": 3})) == []
    assert sender.next_seq("a") == 8
