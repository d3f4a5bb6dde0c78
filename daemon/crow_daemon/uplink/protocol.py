"""The daemon's side of IngestService.StreamFrames as a state machine without I/O.

Invariants
1. Per camera, what is sent rises by one from the resume point: each number once, as a frame or inside a gap.
2. At most the receiver's window is sent and not yet acknowledged, and at most what the link carries. What a backlog has
   under way takes no room from the live stream.
3. A camera's acknowledged number never falls: an older one from a receiver that lost state is ignored.
4. A receiver that has more than the spool ever gave out knows another spool's frames under these numbers: nothing is
   sent, and nothing is taken as delivered.
5. What was refused is reported before the release of its number, so that it is counted while the spool still has it.
6. One message of the sample ledger is under way at most: what the receiver has to keep at once is bounded.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.ledger.tally import LedgerMark, WrittenMinute
from crow_daemon.spool.accounts import Hole
from crow_daemon.uplink.link import LinkWindow
from crow_daemon.uplink.messages import Messages, ledger_message
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame
from crow_shared.zones import Zone, zone_to_wire

PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Announced:
    """A camera as the receiver gets to know it; `idle` as in ingest.proto."""

    camera_id: str
    name: str
    sample_interval_ms: int
    idle: bool = False
    zones: tuple[Zone, ...] = ()


@dataclass(frozen=True, slots=True)
class HelloCamera:
    """A camera and where it stands in the spool: numbers given out, and those that the receiver has or gave up."""

    announced: Announced
    last_seq: int
    acked_seq: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this daemon is."""

    organization_id: str
    site_id: str
    daemon_id: str
    spool_epoch: str
    software_version: str


@dataclass(frozen=True, slots=True)
class Released:
    """The receiver has everything of this camera up to `through_seq`."""

    camera_id: str
    through_seq: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will never accept this frame; `reason` is in its words."""

    camera_id: str
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Draining:
    """The receiver is about to stop: send no more, come back after `reconnect_after_s`."""

    reconnect_after_s: float


@dataclass(frozen=True, slots=True)
class PaceAsked:
    """The receiver asks for samples this far apart; 0: the camera's own interval will do."""

    camera_id: str
    sample_interval_ms: int


@dataclass(frozen=True, slots=True)
class LedgerKept:
    """The receiver has these minutes of the sample ledger."""

    marks: tuple[LedgerMark, ...]


Event = Released | Refused | Draining | PaceAsked | LedgerKept


@dataclass(slots=True)
class _Camera:
    sent_seq: int
    acked_seq: int
    under_way: deque[tuple[int, float]] = field(default_factory=deque)  # (seq, when it was sent)


class SenderProtocol:
    """One connection's worth of protocol state; a new connection begins with a new one."""

    def __init__(
        self,
        identity: Identity,
        cameras: Iterable[HelloCamera],
        link: LinkWindow,
        now_s: Callable[[], float],
        *,
        backlog: bool = False,
        previous_epoch: str = "",
    ) -> None:
        """`link` is shared by the streams of one connection; `now_s` is a monotonic clock; the rest as in Hello."""
        self._identity = identity
        self.backlog = backlog
        self._previous_epoch = previous_epoch
        self._link = link
        self._now_s = now_s
        self._hello_cameras = tuple(cameras)
        self._cameras = {camera.announced.camera_id: _Camera(0, camera.acked_seq) for camera in self._hello_cameras}
        self._window = 0
        self._acknowledged_frames = 0
        self._ledger_is_under_way = False
        self.draining = False  # the receiver has asked for no more

    def hello(self) -> pb.StreamFramesRequest:
        """The first message."""
        return pb.StreamFramesRequest(
            hello=pb.Hello(
                protocol_version=PROTOCOL_VERSION,
                organization_id=self._identity.organization_id,
                site_id=self._identity.site_id,
                daemon_id=self._identity.daemon_id,
                spool_epoch=self._identity.spool_epoch,
                previous_epoch=self._previous_epoch,
                backlog=self.backlog,
                software_version=self._identity.software_version,
                cameras=[
                    pb.HelloCamera(
                        camera_id=camera.announced.camera_id,
                        name=camera.announced.name,
                        sample_interval_ms=camera.announced.sample_interval_ms,
                        acked_seq=camera.acked_seq,
                        idle=camera.announced.idle,
                        zones=[zone_to_wire(zone) for zone in camera.announced.zones],
                    )
                    for camera in self._hello_cameras
                ],
            )
        )

    def welcomed(self, response: pb.StreamFramesResponse) -> list[Event]:
        """Takes the answer to `hello`.

        Raises CrowError(INVALID) when it is something else and CrowError(CONFLICT) "spool_restored" by invariant 4.
        """
        if response.WhichOneof("message") != "welcome":
            raise CrowError(Kind.INVALID, "protocol_error", "the receiver answered Hello with something else")
        durable = {position.camera_id: position.durable_seq for position in response.welcome.cameras}
        for camera in self._hello_cameras:
            there = durable.get(camera.announced.camera_id, 0)
            if there > camera.last_seq:
                raise _restored(camera, there)
        events: list[Event] = [_refused(reject) for reject in response.welcome.rejected]
        events += self._advance(response.welcome.cameras)
        for state in self._cameras.values():
            state.sent_seq = state.acked_seq
        self._window = response.welcome.window_frames
        return events

    @property
    def window_frames(self) -> int:
        """How many frames the receiver lets be under way, as it said last."""
        return self._window

    @property
    def room(self) -> int:
        """How many more frames may be sent now."""
        if self.draining:
            return 0
        under_way = self._under_way()
        link = self._link.room if self.backlog else self._link.frames - under_way
        return max(0, min(link, self._window - under_way))

    @property
    def acknowledged_frames(self) -> int:
        """Frames sent on this stream that the receiver has."""
        return self._acknowledged_frames

    def ended(self) -> None:
        """The stream is over: what is under way on it takes no room on the link any more."""
        self._link.given_up(self._under_way())
        for camera in self._cameras.values():
            camera.under_way.clear()

    def next_seq(self, camera_id: str) -> int | None:
        """The number that this camera's next message has to begin with; None for a camera that was not announced."""
        camera = self._cameras.get(camera_id)
        return None if camera is None else camera.sent_seq + 1

    def send(self, frame: Frame, holes: Sequence[Hole], onto: Messages) -> None:
        """Adds what carries this frame: gaps for the numbers before it, then itself; nothing if it was sent.

        `holes` are the known holes between `next_seq` and the frame. Numbers that no hole explains become a gap too,
        without a reason: they must not stop the line.
        """
        camera = self._cameras[frame.camera_id]
        if frame.seq <= camera.sent_seq:
            return
        self.send_gaps(frame.camera_id, frame.seq - 1, holes, onto)
        onto.add_frame(frame)
        camera.sent_seq = frame.seq
        camera.under_way.append((frame.seq, self._now_s()))
        self._link.sent()

    def send_gaps(self, camera_id: str, through_seq: int, holes: Sequence[Hole], onto: Messages) -> None:
        """Adds what says that no number from `next_seq` to `through_seq` will come; `holes` as for `send`."""
        camera = self._cameras[camera_id]
        for hole in holes:
            first, last = max(hole.from_seq, camera.sent_seq + 1), min(hole.to_seq, through_seq)
            if first > last:
                continue
            if first > camera.sent_seq + 1:
                onto.add_gap(camera_id, camera.sent_seq + 1, first - 1)
            onto.add_gap(camera_id, first, last, hole.reason)
            camera.sent_seq = last
        if camera.sent_seq < through_seq:
            onto.add_gap(camera_id, camera.sent_seq + 1, through_seq)
            camera.sent_seq = through_seq

    @property
    def takes_ledger(self) -> bool:
        """Whether minutes of the sample ledger may be told now."""
        return not (self.backlog or self.draining or self._ledger_is_under_way)

    def tell_ledger(self, minutes: Sequence[WrittenMinute]) -> pb.StreamFramesRequest:
        """The message that tells these minutes."""
        assert self.takes_ledger, "one at a time, on the live stream"
        self._ledger_is_under_way = True
        return ledger_message(minutes)

    def received(self, response: pb.StreamFramesResponse) -> list[Event]:
        """What a message from the receiver means for the spool. Raises CrowError(INVALID) for a second Welcome."""
        match response.WhichOneof("message"):
            case "ack":
                self._window = response.ack.window_frames
                return self._advance(response.ack.cameras)
            case "reject":
                return [_refused(response.reject)]
            case "pace":
                return [PaceAsked(response.pace.camera_id, response.pace.sample_interval_ms)]
            case "drain":
                self.draining = True
                return [Draining(response.drain.reconnect_after_ms / 1000)]
            case "ledger_ack":
                self._ledger_is_under_way = False
                marks = response.ledger_ack.minutes
                return [LedgerKept(tuple(LedgerMark(mark.camera_id, mark.minute_us, mark.revision) for mark in marks))]
            case None:  # a newer receiver's message: it must not matter to us, or the version would have changed
                return []
            case other:
                raise CrowError(Kind.INVALID, "protocol_error", f"the receiver sent {other} out of turn")

    def _under_way(self) -> int:
        return sum(len(camera.under_way) for camera in self._cameras.values())

    def _advance(self, positions: Iterable[pb.CameraPosition]) -> list[Event]:
        events: list[Event] = []
        now_s = self._now_s()
        for position in positions:
            camera = self._cameras.get(position.camera_id)
            if camera is None or position.durable_seq <= camera.acked_seq:
                continue
            camera.acked_seq = position.durable_seq
            while camera.under_way and camera.under_way[0][0] <= position.durable_seq:
                _, sent_s = camera.under_way.popleft()
                self._link.acknowledged(sent_s, now_s)
                self._acknowledged_frames += 1
            events.append(Released(position.camera_id, position.durable_seq))
        return events


def _refused(reject: pb.Reject) -> Refused:
    code = pb.RejectCode.Name(reject.code) if reject.code in pb.RejectCode.values() else str(reject.code)
    return Refused(reject.camera_id, reject.seq, f"{code}: {reject.reason}")


def _restored(camera: HelloCamera, durable_seq: int) -> CrowError:
    return CrowError(
        Kind.CONFLICT,
        "spool_restored",
        f"the receiver has frame {durable_seq} of camera {camera.announced.camera_id}, this spool gave out only "
        f"{camera.last_seq}: it was restored from a copy. Stop the daemon, run `crow-daemon spool repair --new-epoch`",
    )
