"""Both ends of the wire protocol against each other, with connections lost at any moment and either side restarted.

The cores are free of I/O, so that a model can drive them: messages are delivered one by one, lost with the connection,
and never reordered within it (gRPC keeps the order). The spool drops and seals, the window closes and opens, frames are
refused. Wrong variants are kept as controls: the model must catch them.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from crow.cctv.v1 import frame_pb2
from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.messages import Messages
from crow_daemon.uplink.protocol import Announced, Event, HelloCamera, Identity, Refused, Released, SenderProtocol
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


@dataclass
class Counted:
    """One camera in one epoch, as the daemon's disk has it."""

    spooled: list[int] = field(default_factory=list)
    last: int = 0
    acked: int = 0
    let_go: set[int] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)
    holes: list[Hole] = field(default_factory=list)

    def give_up(self, seq: int, reason: HoleReason) -> bool:
        if seq not in self.spooled:
            return False
        self.spooled.remove(seq)
        self.holes.append(Hole("", seq, seq, reason, ""))
        return True


@dataclass
class OpenLane:
    """A stream with what is on its way in either direction, and what the receiver has not committed yet."""

    epoch: int
    sender: SenderProtocol
    receiver: ReceiverProtocol
    up: deque[pb.StreamFramesRequest] = field(default_factory=deque)
    down: deque[pb.StreamFramesResponse] = field(default_factory=deque)
    uncommitted: list[frame_pb2.Frame | pb.Gap] = field(default_factory=list)
    rejects: list[pb.Reject] = field(default_factory=list)


LANES = ("live", "backlog")
STEPS = [
    "send",
    "send_some",
    "arrive",
    "send arrive",
    "send_some arrive",
    "commit",
    "ack hear",
    "hear",
    "send arrive commit ack hear",
]
Place: TypeAlias = tuple[int, str, int]  # epoch, camera, number


class Line(RuleBasedStateMachine):
    """A daemon and a receiver with what each keeps on disk, and the streams between them."""

    acknowledge_before_commit = False
    tells_rejects_again = True

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, Counted]] = [{}]  # the daemon's disk; the last one is being written
        self.stored: list[Place] = []  # the receiver's disk
        self.missing: set[Place] = set()
        self.rejected: set[Place] = set()
        self.position: dict[tuple[int, str], int] = {}
        self.bad: set[Place] = set()  # what the receiver will never take
        self.room = dict.fromkeys(LANES, WINDOW)
        self.link = LinkWindow()
        self.open: dict[str, OpenLane] = {}

    @rule(camera=st.sampled_from(CAMERAS), bad=st.sampled_from([False, False, True]))
    def capture(self, camera: str, bad: bool) -> None:
        counted = self.epochs[-1].setdefault(camera, Counted())
        counted.last += 1
        counted.spooled.append(counted.last)
        if bad:
            self.bad.add((len(self.epochs) - 1, camera, counted.last))

    @rule(camera=st.sampled_from(CAMERAS))
    def spool_lets_the_oldest_go(self, camera: str) -> None:
        for counted in (epoch[camera] for epoch in self.epochs if camera in epoch):
            if counted.spooled:
                seq = counted.spooled[0]
                counted.give_up(seq, HoleReason.SPOOL_FULL)
                counted.let_go.add(seq)
                return

    @precondition(lambda self: self.epochs[-1])
    @rule()
    def seal(self) -> None:
        self.epochs.append({})
        self.lose("live")

    @rule(lane=st.sampled_from(LANES))
    def connect(self, lane: str) -> None:
        sealed = [number for number in range(len(self.epochs) - 1) if self.is_open(number)]
        if lane == "backlog" and not sealed:
            return
        self.lose(lane)
        epoch = sealed[0] if lane == "backlog" else len(self.epochs) - 1
        cameras = [
            hello_camera(camera, counted.last, counted.acked)
            for camera in CAMERAS
            for counted in (self.epochs[epoch].get(camera, Counted()),)
        ]
        sender = SenderProtocol(IDENTITY, cameras, self.link, lambda: 0.0, backlog=lane == "backlog")
        receiver = ReceiverProtocol(WINDOW, self.room[lane])
        self.open[lane] = OpenLane(epoch, sender, receiver)
        hello = sender.hello().hello
        positions = {
            camera.camera_id: max(self.position.get((epoch, camera.camera_id), 0), camera.acked_seq)
            for camera in hello.cameras
        }
        again = [
            pb.Reject(camera_id=camera, seq=seq)
            for of, camera, seq in sorted(self.rejected)
            if of == epoch and seq > self.epochs[epoch].get(camera, Counted()).acked and self.tells_rejects_again
        ]
        self.apply(epoch, sender.welcomed(receiver.welcome(positions, again)))

    @rule(lane=st.sampled_from(LANES))
    def lose(self, lane: str) -> None:
        """Also what a kill of either side does: nothing but the disks remains."""
        if lane in self.open:
            self.open.pop(lane).sender.ended()

    @rule(lane=st.sampled_from(LANES), frames=st.integers(0, WINDOW))
    def give_room(self, lane: str, frames: int) -> None:
        self.room[lane] = frames
        if lane in self.open:
            self.open[lane].receiver.set_room(frames)

    @rule(lane=st.sampled_from(LANES), moves=st.lists(st.sampled_from(STEPS), max_size=20))
    def pump(self, lane: str, moves: list[str]) -> None:
        for step in " ".join(moves).split():
            if lane in self.open:
                getattr(self, step)(self.open[lane])
                self.every_number_is_somewhere()

    @rule(lane=st.sampled_from(LANES), times=st.integers(1, WINDOW))
    def lose_the_answers(self, lane: str, times: int) -> None:
        """The receiver has it, the daemon does not hear of it, and both meet again."""
        self.pump(lane, ["send arrive"] * times + ["commit", "ack"])
        self.connect(lane)

    def is_open(self, epoch: int) -> bool:
        return any(counted.acked < counted.last for counted in self.epochs[epoch].values())

    def send(self, lane: OpenLane) -> None:
        self.add_one(lane, messages := Messages())
        lane.up.extend(messages.take())

    def send_some(self, lane: OpenLane) -> None:
        messages = Messages()
        for _ in range(3):
            self.add_one(lane, messages)
        lane.up.extend(messages.take())

    def add_one(self, lane: OpenLane, messages: Messages) -> None:
        for camera, counted in self.epochs[lane.epoch].items():
            expected = lane.sender.next_seq(camera)
            assert expected is not None
            ready = [seq for seq in counted.spooled if seq >= expected]
            holes = sorted(counted.holes, key=lambda hole: hole.from_seq)
            if not lane.sender.room:
                return
            if ready:
                known = [hole for hole in holes if hole.from_seq < ready[0]]
                lane.sender.send(frame(camera, ready[0]), known, messages)
                return
            if lane.epoch < len(self.epochs) - 1 and expected <= counted.last:
                lane.sender.send_gaps(camera, counted.last, holes, messages)

    def arrive(self, lane: OpenLane) -> None:
        if not lane.up:
            return
        message = lane.up.popleft()
        if message.HasField("gap") and lane.receiver.take_gap(message.gap):
            lane.uncommitted.append(message.gap)
        for sent in message.frames.frames:
            if lane.receiver.take_frame(sent):
                lane.uncommitted.append(sent)
                if self.acknowledge_before_commit:
                    lane.receiver.durable(sent.camera_id, sent.seq, 1)

    def commit(self, lane: OpenLane) -> None:
        for message in lane.uncommitted:
            if isinstance(message, frame_pb2.Frame):
                camera, seq = message.camera_id, message.seq
                place = (lane.epoch, camera, seq)
                if place in self.bad:
                    self.rejected.add(place)
                    lane.rejects.append(pb.Reject(camera_id=camera, seq=seq))
                else:
                    self.stored.append(place)
                self.position[lane.epoch, camera] = seq
                if not self.acknowledge_before_commit:
                    lane.receiver.durable(camera, seq, 1)
            else:
                numbers = range(message.from_seq, message.to_seq + 1)
                self.missing |= {(lane.epoch, message.camera_id, seq) for seq in numbers}
                self.position[lane.epoch, message.camera_id] = message.to_seq
                lane.receiver.durable(message.camera_id, message.to_seq, 0)
        lane.uncommitted.clear()

    def ack(self, lane: OpenLane) -> None:
        lane.down.extend(pb.StreamFramesResponse(reject=reject) for reject in lane.rejects)
        lane.rejects.clear()
        if lane.receiver.unacknowledged:
            lane.down.append(lane.receiver.ack())

    def hear(self, lane: OpenLane) -> None:
        if lane.down:
            self.apply(lane.epoch, lane.sender.received(lane.down.popleft()))

    def apply(self, epoch: int, events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event, Released | Refused)
            counted = self.epochs[epoch][event.camera_id]
            if isinstance(event, Refused):
                counted.refused[event.seq] += counted.give_up(event.seq, HoleReason.REFUSED)
            else:
                counted.acked = event.through_seq
                counted.spooled = [seq for seq in counted.spooled if seq > event.through_seq]

    @invariant()
    def every_number_is_somewhere(self) -> None:
        stored = set(self.stored)
        for epoch, cameras in enumerate(self.epochs):
            for camera, counted in cameras.items():
                for seq in range(1, counted.last + 1):
                    place = (epoch, camera, seq)
                    kept = seq in counted.spooled or seq in counted.let_go or counted.refused[seq]
                    assert kept or place in stored, f"{place} is lost"

    @invariant()
    def nothing_is_stored_twice_or_out_of_order(self) -> None:
        assert len(set(self.stored)) == len(self.stored)
        for of in {(epoch, camera) for epoch, camera, _ in self.stored}:
            numbers = [seq for *place, seq in self.stored if tuple(place) == of]
            assert numbers == sorted(numbers)

    @invariant()
    def what_the_receiver_passed_over_it_was_told_of(self) -> None:
        told = set(self.stored) | self.missing | self.rejected
        for (epoch, camera), position in self.position.items():
            assert all((epoch, camera, seq) in told for seq in range(1, position + 1))

    @invariant()
    def what_was_rejected_is_counted_once_unless_it_was_let_go(self) -> None:
        for epoch, cameras in enumerate(self.epochs):
            for camera, counted in cameras.items():
                assert all(times <= 1 for times in counted.refused.values())
                for of, name, seq in self.rejected:
                    if (of, name) == (epoch, camera) and seq <= counted.acked and seq not in counted.let_go:
                        assert counted.refused[seq] == 1, f"{(of, name, seq)} is not counted"

    @invariant()
    def the_link_is_free_when_no_stream_is_open(self) -> None:
        assert self.open or self.link.room == self.link.frames

    def teardown(self) -> None:
        """Given connections that last and room, everything arrives, whatever was sealed."""
        for lane in LANES:
            self.give_room(lane, WINDOW)
        most = 2 * sum(counted.last for cameras in self.epochs for counted in cameras.values()) + 4
        for _ in range(len(self.epochs)):
            for lane in LANES:
                self.connect(lane)
                for _ in range(most):
                    self.pump(lane, ["send", "arrive", "commit", "ack", "hear", "hear"])
        for epoch in range(len(self.epochs) - 1):
            assert not self.is_open(epoch)
        assert not any(counted.spooled for cameras in self.epochs for counted in cameras.values())
        self.every_number_is_somewhere()
        self.nothing_is_stored_twice_or_out_of_order()
        self.what_was_rejected_is_counted_once_unless_it_was_let_go()


Line.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_nothing_is_lost_or_doubled_whatever_breaks = Line.TestCase


class AcknowledgesTooEarly(Line):
    acknowledge_before_commit = True


class ForgetsRejects(Line):
    tells_rejects_again = False


@pytest.mark.parametrize("wrong", [AcknowledgesTooEarly, ForgetsRejects])
def test_the_model_catches_a_receiver_that_is_wrong(wrong: type[Line]) -> None:
    """The control: a harness that cannot fail proves nothing."""
    quick = settings(max_examples=500, stateful_step_count=30, deadline=None, database=None, print_blob=False,
                     derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
                     report_multiple_bugs=False)  # fmt: skip
    with pytest.raises(AssertionError, match=r"is lost|is not counted"):
        run_state_machine_as_test(wrong, settings=quick)


def welcomed(**positions: int) -> ReceiverProtocol:
    protocol = ReceiverProtocol(WINDOW, WINDOW)
    protocol.welcome(positions)
    return protocol


def wire(camera_id: str, seq: int) -> frame_pb2.Frame:
    return frame_pb2.Frame(camera_id=camera_id, seq=seq)


def test_an_acknowledgement_is_pressing_once_a_quarter_of_the_window_is_durable() -> None:
    receiver = ReceiverProtocol(8, 8)
    receiver.welcome({"a": 0})
    for seq in range(1, 5):
        receiver.take_frame(wire("a", seq))
        receiver.durable("a", seq, frames=1)
        assert receiver.ack_is_pressing is (seq % 2 == 0)
        if receiver.ack_is_pressing:
            receiver.ack()


def test_a_frame_sent_twice_is_taken_once() -> None:
    receiver = welcomed(a=0)
    assert receiver.take_frame(wire("a", 1))
    assert not receiver.take_frame(wire("a", 1))


def test_a_hole_in_the_numbers_is_refused() -> None:
    with pytest.raises(CrowError, match="jumps from 0 to 2"):
        welcomed(a=0).take_frame(wire("a", 2))


def test_a_camera_that_was_not_announced_is_refused() -> None:
    with pytest.raises(CrowError) as caught:
        welcomed(a=0).take_frame(wire("b", 1))
    assert caught.value.kind is Kind.NOT_FOUND


def test_more_than_the_window_is_refused() -> None:
    receiver = welcomed(a=0)
    for seq in range(1, WINDOW + 1):
        receiver.take_frame(wire("a", seq))
    with pytest.raises(CrowError, match="more than 4 frames under way"):
        receiver.take_frame(wire("a", WINDOW + 1))


def test_numbers_that_nothing_explains_become_a_gap_without_reason() -> None:
    sender = SenderProtocol(IDENTITY, [hello_camera("a", 5, 0)], LinkWindow(), lambda: 0.0)
    sender.welcomed(ReceiverProtocol(WINDOW, WINDOW).welcome({"a": 0}))
    messages = Messages()
    sender.send(frame("a", 5), [Hole("a", 2, 3, HoleReason.CORRUPT, "")], messages)
    assert sender.next_seq("a") == 6
    gaps = [message.gap for message in messages.take() if message.HasField("gap")]
    assert [(gap.from_seq, gap.to_seq) for gap in gaps] == [(1, 1), (2, 3), (4, 4)]
    assert [gap.reason for gap in gaps] == [
        pb.GAP_REASON_UNSPECIFIED,
        pb.GAP_REASON_SPOOL_CORRUPT,
        pb.GAP_REASON_UNSPECIFIED,
    ]


def test_a_receiver_that_remembers_less_does_not_move_the_daemon_back() -> None:
    sender = SenderProtocol(IDENTITY, [hello_camera("a", 9, 7)], LinkWindow(), lambda: 0.0)
    assert sender.welcomed(ReceiverProtocol(WINDOW, WINDOW).welcome({"a": 3})) == []
    assert sender.next_seq("a") == 8
