"""What goes up to the receiver, as messages of ingest.proto."""

from collections.abc import Mapping, Sequence

from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.ledger.tally import WrittenMinute
from crow_daemon.spool.accounts import HoleReason
from crow_shared.frame import Frame, wire_fields

# Of the pictures in one message. A message for each frame costs half as much CPU again at this end; larger ones gain
# little, and are sent anew as a whole where the connection ends in the middle.
MESSAGE_BYTES = 512 << 10

_GAP_REASONS = {
    HoleReason.SPOOL_FULL: pb.GAP_REASON_SPOOL_FULL,
    HoleReason.CORRUPT: pb.GAP_REASON_SPOOL_CORRUPT,
    HoleReason.REFUSED: pb.GAP_REASON_REFUSED,
    HoleReason.ERASED: pb.GAP_REASON_ERASED,
    HoleReason.SPOOL_AGE: pb.GAP_REASON_SPOOL_AGE,
}


class Messages:
    """Frames and gaps in the order of their adding, neighbouring frames together in one message."""

    def __init__(self) -> None:
        """Nothing is to be sent yet."""
        self._made: list[pb.StreamFramesRequest] = []
        self._frames: pb.Frames | None = None  # of the last message, while there is room in it
        self._room_bytes = 0

    def add_frame(self, frame: Frame) -> None:
        """Puts a frame behind all others; one that is larger than a message should be has one of its own."""
        if self._frames is None or len(frame.payload) > self._room_bytes:
            self._made.append(pb.StreamFramesRequest(frames=pb.Frames()))
            self._frames, self._room_bytes = self._made[-1].frames, MESSAGE_BYTES
        self._frames.frames.add(**wire_fields(frame))
        self._room_bytes -= len(frame.payload)

    def add_gap(self, camera_id: str, from_seq: int, to_seq: int, reason: HoleReason | None = None) -> None:
        """Says that these numbers, both inclusive, will never come; None: nobody knows why."""
        code = pb.GAP_REASON_UNSPECIFIED if reason is None else _GAP_REASONS[reason]
        gap = pb.Gap(camera_id=camera_id, from_seq=from_seq, to_seq=to_seq, reason=code)
        self._made.append(pb.StreamFramesRequest(gap=gap))
        self._frames = None

    def take(self) -> Sequence[pb.StreamFramesRequest]:
        """All messages so far, which are then no longer here."""
        made, self._made, self._frames = self._made, [], None
        return made


def ledger_message(minutes: Sequence[WrittenMinute]) -> pb.StreamFramesRequest:
    """The message that tells these minutes of the sample ledger."""
    return pb.StreamFramesRequest(ledger=pb.SampleLedger(minutes=map(_ledger_minute, minutes)))


def _ledger_minute(minute: WrittenMinute) -> pb.LedgerMinute:
    tally = minute.tally
    return pb.LedgerMinute(
        camera_id=minute.camera_id,
        minute_us=minute.minute_us,
        revision=minute.revision,
        expected=tally.expected,
        sent=tally.sent,
        gated=_sample_counts(tally.gated),
        dropped=_sample_counts(tally.dropped),
        alerts=sorted(tally.alerts),
    )


def _sample_counts(by_reason: Mapping[str, int]) -> list[pb.SampleCount]:
    return [pb.SampleCount(reason=reason, samples=samples) for reason, samples in sorted(by_reason.items())]
