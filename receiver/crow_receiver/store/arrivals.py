"""Arriving frames become rows: in their sessions, waiting for their analysis, with the stream's position behind them.

What has arrived together is stored together, in a handful of statements, with the result of storing one by one. The
session is found or opened in the transaction that stores the frame. A frame that comes after its session was closed
opens it again: it will close anew with the next revision.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from crow_receiver.store import cameras, erasures, sessions
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.sessions import HOUR_US, Span
from crow_receiver.store.store import Transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame

ERASED = "erased"  # the code of the refusal, and the reason why the number is missing
_WAS_ERASED = "frames of this camera and time were erased"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A checked frame that came at `received_us`; a `late` one is analysed after those in time."""

    camera: CameraRow
    frame: Frame
    received_us: int
    late: bool = False

    @property
    def to_seq(self) -> int:
        """Its number, as the last that it accounts for."""
        return self.frame.seq


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers of a stream that have no frame, both inclusive, and why."""

    camera: CameraRow
    from_seq: int
    to_seq: int
    reason: str
    detail: str
    received_us: int
    frame_came: bool = False  # it is refused, and its sender has to hear of that


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """Where a frame ended up; `duplicate` when it had been stored before."""

    session_id: str
    frame_index: int
    duplicate: bool


@dataclass(slots=True)
class _Run:
    """Consecutive numbers of a camera that have frames."""

    from_seq: int
    to_seq: int
    received_us: int


def without_erased(tx: Transaction, arrived: Sequence[Arrival | Missing]) -> list[Arrival | Missing]:
    """The same, with missing numbers in place of the frames of spans that an operator had erased."""
    cameras_here = {one.camera.id for one in arrived}
    spans = {camera: erasures.spans(tx.db, camera) for camera in cameras_here}
    return [
        Missing(one.camera, one.to_seq, one.to_seq, ERASED, _WAS_ERASED, one.received_us, frame_came=True)
        if isinstance(one, Arrival) and _in_any(spans[one.camera.id], one.frame.capture_us)
        else one
        for one in arrived
    ]


def _in_any(spans: Sequence[tuple[int, int]], capture_us: int) -> bool:
    return any(from_us <= capture_us < to_us for from_us, to_us in spans)


def store_stream(
    tx: Transaction, epoch: str, arrived: Sequence[Arrival | Missing], gap_us: int
) -> list[tuple[CameraRow, StoredFrame]]:
    """Stores what a stream has brought, in its order, and moves its position; what lies before that is passed over.

    Returns the places of the frames that are new. Raises CrowError(CONFLICT) when numbers before these are not
    accounted for: their transaction failed, and this one must not step over them.
    """
    runs: dict[int, _Run] = {}
    fresh: list[Arrival] = []

    def advance(camera: int) -> None:
        run = runs.pop(camera, None)
        if run is not None:
            cameras.advance(tx.db, camera, epoch, run.from_seq, run.to_seq, run.received_us)

    for one in arrived:
        camera = one.camera.id
        if isinstance(one, Missing):
            advance(camera)
            span = (one.from_seq, one.to_seq, one.reason, one.detail, one.received_us)
            cameras.pass_over(tx.db, camera, epoch, *span)
            continue
        seq, run = one.frame.seq, runs.get(camera)
        before = run.to_seq if run is not None else cameras.durable_seq(tx.db, camera, epoch)
        if seq <= before:
            continue
        if run is not None and seq == before + 1:
            run.to_seq, run.received_us = seq, one.received_us
        else:
            advance(camera)
            runs[camera] = _Run(seq, seq, one.received_us)
        fresh.append(one)
    stored = _store(tx, epoch, fresh, gap_us)
    for camera in list(runs):
        advance(camera)
    return [(one.camera, place) for one, place in zip(fresh, stored, strict=True)]


def store_single(tx: Transaction, epoch: str, arrival: Arrival, gap_us: int) -> StoredFrame:
    """Stores a frame that came by itself: its epoch has no position, the frame's own number tells a second copy.

    Raises CrowError(INVALID, "erased") for one of a span that an operator had erased.
    """
    known = tx.db.execute(
        "select session_id, frame_index from frame where camera = ? and epoch = ? and seq = ?",
        (arrival.camera.id, epoch, arrival.frame.seq),
    ).fetchone()
    if known is not None:
        return StoredFrame(known[0], known[1], duplicate=True)
    if _in_any(erasures.spans(tx.db, arrival.camera.id), arrival.frame.capture_us):
        raise CrowError(Kind.INVALID, ERASED, _WAS_ERASED)
    return _store(tx, epoch, [arrival], gap_us)[0]


def _store(tx: Transaction, epoch: str, arrivals: Sequence[Arrival], gap_us: int) -> list[StoredFrame]:
    if not arrivals:
        return []
    pointers = tx.pictures.append_all([one.frame.payload for one in arrivals], [one.frame.crc32 for one in arrivals])
    hours: dict[tuple[int, int], list[Span]] = {}
    changed: dict[str, tuple[Span, int]] = {}
    stored: list[StoredFrame] = []
    rows = []
    for one, place in zip(arrivals, pointers, strict=True):
        camera, frame = one.camera, one.frame
        hour_us = frame.capture_us // HOUR_US * HOUR_US
        spans = hours.get((camera.id, hour_us))
        if spans is None:
            spans = hours[camera.id, hour_us] = sessions.spans(tx.db, camera.id, hour_us)
        span = sessions.nearest(spans, frame.capture_us, gap_us)
        if span is None:
            span = sessions.open_session(tx.db, camera, frame.capture_us, one.received_us)
            spans.append(span)
        stored.append(StoredFrame(span.session_id, span.frames, duplicate=False))
        span.take(frame.capture_us)
        changed[span.session_id] = (span, one.received_us)
        kind = (frame.time_source, one.received_us, one.late, frame.encoding, frame.width, frame.height)
        origin = (frame.clock_skew_us, frame.masked, frame.blurred)
        pointer = (place.segment, place.offset, place.length, place.crc32)
        index = stored[-1].frame_index
        rows.append((camera.id, epoch, frame.seq, span.session_id, index, frame.capture_us, *kind, *origin, *pointer))
    tx.db.executemany(
        """insert into frame (camera, epoch, seq, session_id, frame_index, capture_us, time_source, received_us,
               late, encoding, width, height, clock_skew_us, masked, blurred, segment, "offset", length, crc32)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        rows,
    )
    sessions.extend(tx.db, changed.values())
    return stored
