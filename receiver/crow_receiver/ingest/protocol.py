"""The receiver's side of IngestService.StreamFrames as a state machine without I/O.

Invariants
1. Per camera, numbers are taken in rising order without holes: a frame or gap must begin at `taken_seq` + 1. What lies
   before it was taken already and is passed over.
2. `durable_seq` moves only when the caller says that a commit is on disk, and never falls. An Ack tells just that.
3. A sender that puts more than `window_frames` under way breaks the protocol and is cut off: memory stays bounded. The
   window that it is told, `room_frames`, may be lower for a while; what was on its way before that is still taken.
4. A change of that window makes an Ack due, also when no camera has moved.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crow.cctv.v1 import frame_pb2
from crow.cctv.v1 import ingest_pb2 as pb
from crow_shared.errors import CrowError, Kind

PROTOCOL_VERSION = 1
MAX_SEQ = 2**63 - 1  # what the store can hold


@dataclass(slots=True)
class _Camera:
    taken_seq: int
    durable_seq: int


@dataclass(slots=True)
class ReceiverProtocol:
    """One stream's worth of protocol state."""

    window_frames: int
    room_frames: int
    _told_frames: int = 0
    _cameras: dict[str, _Camera] = field(default_factory=dict)
    _moved: set[str] = field(default_factory=set)
    _under_way: int = 0
    _owed: int = 0  # frames that became durable since the last Ack

    def welcome(self, positions: Mapping[str, int], rejected: Iterable[pb.Reject] = ()) -> pb.StreamFramesResponse:
        """The answer to Hello, given where each camera's stream stands and what of it was rejected before."""
        self._cameras = {camera_id: _Camera(seq, seq) for camera_id, seq in positions.items()}
        cameras = [pb.CameraPosition(camera_id=camera_id, durable_seq=seq) for camera_id, seq in positions.items()]
        self._told_frames = self.room_frames
        welcome = pb.Welcome(
            protocol_version=PROTOCOL_VERSION, cameras=cameras, window_frames=self._told_frames, rejected=rejected
        )
        return pb.StreamFramesResponse(welcome=welcome)

    def take_frame(self, frame: frame_pb2.Frame) -> bool:
        """Whether this frame is to be stored; False for one that was taken before.

        Raises CrowError(NOT_FOUND) for a camera that Hello did not name and CrowError(INVALID) for a hole in the
        numbers or for more frames than the window allows.
        """
        if not self._take(frame.camera_id, frame.seq, frame.seq):
            return False
        self._under_way += 1
        if self._under_way > self.window_frames:
            raise _broken(f"more than {self.window_frames} frames under way")
        return True

    def take_gap(self, gap: pb.Gap) -> bool:
        """Whether this gap tells something new. Raises as `take_frame` does."""
        if not gap.from_seq <= gap.to_seq <= MAX_SEQ:
            raise _broken(f"gap from {gap.from_seq} to {gap.to_seq} of camera {gap.camera_id!r}")
        return self._take(gap.camera_id, gap.from_seq, gap.to_seq)

    def durable(self, camera_id: str, seq: int, frames: int) -> None:
        """Everything of this camera up to `seq` is on disk, with it `frames` that were under way."""
        camera = self._cameras[camera_id]
        self._under_way -= frames
        self._owed += frames
        if seq > camera.durable_seq:
            camera.durable_seq = seq
            self._moved.add(camera_id)

    def set_room(self, frames: int) -> None:
        """Lets the sender have so many frames under way from now on, at most `window_frames`."""
        self.room_frames = min(frames, self.window_frames)

    @property
    def unacknowledged(self) -> bool:
        """Whether there is something to acknowledge, or a window to tell."""
        return bool(self._moved) or self._told_frames != self.room_frames

    @property
    def ack_is_pressing(self) -> bool:
        """Whether the sender may soon have to wait for an Ack: a quarter of the window has become durable."""
        return self._owed * 4 >= self.room_frames

    def ack(self) -> pb.StreamFramesResponse:
        """The cumulative acknowledgement of all that became durable since the last one."""
        positions = [
            pb.CameraPosition(camera_id=name, durable_seq=self._cameras[name].durable_seq)
            for name in sorted(self._moved)
        ]
        self._moved.clear()
        self._owed = 0
        self._told_frames = self.room_frames
        return pb.StreamFramesResponse(ack=pb.Ack(cameras=positions, window_frames=self._told_frames))

    def _take(self, camera_id: str, from_seq: int, to_seq: int) -> bool:
        camera = self._cameras.get(camera_id)
        if camera is None:
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"camera {camera_id[:80]!r} was not named in Hello")
        if to_seq <= camera.taken_seq:
            self._moved.add(camera_id)  # tell the sender again how far we are
            return False
        if from_seq > camera.taken_seq + 1:
            raise _broken(f"camera {camera_id!r} jumps from {camera.taken_seq} to {from_seq} without a gap")
        camera.taken_seq = to_seq
        return True


def _broken(what: str) -> CrowError:
    return CrowError(Kind.INVALID, "protocol_error", what)
