"""The open streams: whose they are, and what each still has to be told.

Invariants
1. A daemon has at most one stream per lane; the same spool coming back takes the place of its older one.
2. A camera is delivered live by one daemon at a time.
3. A pace holds until another is asked: each live stream of the camera is told of it once.
4. What waits to be told is bounded: one pace per camera, one window, rejects by the frames under way, and one message
   of the sample ledger, which is read one at a time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from crow.cctv.v1 import ingest_pb2 as pb
from crow_receiver.ingest.arriving import Arriving
from crow_receiver.ingest.protocol import ReceiverProtocol
from crow_receiver.store.cameras import CameraRow
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

Place: TypeAlias = tuple[str, str, str, bool]  # organization, site, daemon, whether it is the backlog lane


@dataclass(eq=False, slots=True)
class Stream:
    """One daemon's stream of one lane while it lasts."""

    hello: pb.Hello
    protocol: ReceiverProtocol
    delivers: frozenset[CameraKey]  # live, so that no other daemon may
    cameras: Mapping[str, CameraRow] = field(default_factory=dict)
    arriving: Arriving = field(default_factory=Arriving)
    refused: dict[tuple[str, int], pb.Reject] = field(default_factory=dict)  # by camera id and number; not durable yet
    rejects: list[pb.Reject] = field(default_factory=list)
    ledger_acks: list[pb.LedgerAck] = field(default_factory=list)
    paces: dict[str, int] = field(default_factory=dict)  # by camera id, in ms
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    storing: set[asyncio.Task[None]] = field(default_factory=set)
    failure: CrowError | None = None
    replaced: bool = False

    @property
    def daemon(self) -> str:
        """In words, for logs and errors."""
        return f"{self.hello.organization_id}/{self.hello.site_id}/{self.hello.daemon_id}"

    @property
    def place(self) -> Place:
        """What only one stream may have at a time."""
        return (self.hello.organization_id, self.hello.site_id, self.hello.daemon_id, self.hello.backlog)

    def answers(self) -> list[pb.StreamFramesResponse]:
        """What there is to tell now, in the order that the daemon needs: a reject before the Ack that passes it."""
        rejects = [pb.StreamFramesResponse(reject=reject) for reject in self.rejects]
        paces = [
            pb.StreamFramesResponse(pace=pb.Pace(camera_id=camera_id, sample_interval_ms=interval_ms))
            for camera_id, interval_ms in self.paces.items()
        ]
        kept = [pb.StreamFramesResponse(ledger_ack=ack) for ack in self.ledger_acks]
        self.rejects.clear()
        self.paces.clear()
        self.ledger_acks.clear()
        return [*rejects, *paces, *kept, *([self.protocol.ack()] if self.protocol.unacknowledged else [])]

    @property
    def settled(self) -> bool:
        """Whether nothing of it is on its way to the disk or waits to be told."""
        return not (self.storing or self.rejects or self.paces or self.ledger_acks or self.protocol.unacknowledged)


class Streams:
    """All streams that are open now."""

    def __init__(self, window_frames: int) -> None:
        """No stream ever has more than `window_frames` under way."""
        self._window_frames = window_frames
        self._room_frames = {False: window_frames, True: window_frames}  # by Hello.backlog
        self._open: dict[Place, Stream] = {}
        self._paces: dict[CameraKey, int] = {}

    @property
    def daemons(self) -> int:
        """Daemons with an open stream."""
        return len({place[:3] for place in self._open})

    def claim(self, hello: pb.Hello, keys: Mapping[str, CameraKey]) -> Stream:
        """The stream for this Hello, in its daemon's place.

        Raises CrowError(CONFLICT) when the place or a camera of it is another daemon's.
        """
        protocol = ReceiverProtocol(self._window_frames, self._room_frames[hello.backlog])
        live = [] if hello.backlog else [camera.camera_id for camera in hello.cameras if not camera.idle]
        stream = Stream(hello, protocol, frozenset(keys[camera_id] for camera_id in live))
        stream.paces = {camera_id: self._paces[keys[camera_id]] for camera_id in live if keys[camera_id] in self._paces}
        stream.progress.set()  # there may be paces to tell
        other = self._open.get(stream.place)
        own = (hello.spool_epoch, hello.previous_epoch)
        if other is not None and not hello.backlog and other.hello.spool_epoch not in own:
            raise CrowError(
                Kind.CONFLICT,
                "daemon_id_taken",
                f"a daemon {stream.daemon} with another spool is connected: "
                "give each daemon of a site its own daemon_id",
            )
        self._refuse_taken_cameras(stream)
        if other is not None:
            other.replaced = True
            other.progress.set()
        self._open[stream.place] = stream
        return stream

    def release(self, stream: Stream) -> None:
        """Its end; without effect when another one has taken its place."""
        if self._open.get(stream.place) is stream:
            del self._open[stream.place]

    def pace(self, camera: CameraKey, sample_interval_ms: int) -> bool:
        """Asks for samples this far apart, 0: the camera's own interval; whether a daemon is there to hear it now."""
        if self._paces.get(camera, 0) != sample_interval_ms:
            self._paces[camera] = sample_interval_ms
            if not sample_interval_ms:
                del self._paces[camera]
            for stream in self._open.values():
                if camera in stream.delivers:
                    stream.paces[camera.camera_id] = sample_interval_ms
                    stream.progress.set()
        return any(camera in stream.delivers for stream in self._open.values())

    def set_room(self, live_frames: int, backlog_frames: int) -> None:
        """Bounds the frames under way on each stream of a lane; 0 stops it, until it is opened again."""
        self._room_frames = {False: live_frames, True: backlog_frames}
        for stream in self._open.values():
            stream.protocol.set_room(self._room_frames[stream.hello.backlog])
            if stream.protocol.unacknowledged:
                stream.progress.set()

    def wake(self) -> None:
        """Lets every stream look at what has changed around it."""
        for stream in self._open.values():
            stream.progress.set()

    def _refuse_taken_cameras(self, stream: Stream) -> None:
        for other in self._open.values():
            taken = other.delivers & stream.delivers
            if taken and other.place != stream.place:
                raise CrowError(
                    Kind.CONFLICT,
                    "camera_taken",
                    f"camera {min(map(str, taken))} is delivered by daemon {other.daemon}: "
                    "disable it on one of the two, or give it another id",
                )
