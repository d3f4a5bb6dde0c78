"""Every sequence number of a stream has exactly one end: its frame's, or a reason why there is none."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from crow_receiver.audit.intervals import Interval, covered, holes_and_overlaps
from crow_receiver.audit.report import AuditReport, CameraEnds, End, FaultKind
from crow_receiver.store.cameras import RECEIVER_RESTORED, CameraRow


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of capture time in µs since the Unix epoch, its end excluded."""

    from_us: int
    to_us: int


ALWAYS = Span(-(2**62), 2**62)

_STREAMS = """
    select epoch from position where camera = :camera union select distinct epoch from frame where camera = :camera"""

_BOUNDS = """
    select min(low), max(high) from (
        select min(seq) as low, max(seq) as high from frame
            where camera = :camera and epoch = :epoch and capture_us >= :from_us and capture_us < :to_us
        union all select min(from_seq), max(to_seq) from missing
            where camera = :camera and epoch = :epoch and recorded_us >= :from_us and recorded_us < :to_us)"""

_FRAMES = """
    select f.state, f.failure is not null, a.frame is not null, a.batch_index is not null, s.state, count(*), min(f.seq)
    from frame as f left join analysis as a on a.frame = f.id left join session as s on s.id = f.session_id
    where f.camera = :camera and epoch = :epoch and seq between :low and :high group by 1, 2, 3, 4, 5"""

_NUMBERS = (
    "select seq, seq from frame where camera = :camera and epoch = :epoch and seq between :low and :high order by seq"
)

_RANGES = """
    select from_seq, to_seq, reason from missing
        where camera = :camera and epoch = :epoch and to_seq >= :low and from_seq <= :high
    union all select from_seq, to_seq, 'expired' from expired
        where camera = :camera and epoch = :epoch and to_seq >= :low and from_seq <= :high
    order by 1, 2"""


def audit_camera(db: sqlite3.Connection, camera: CameraRow, span: Span, report: AuditReport) -> None:
    """Counts what became of the camera's numbers in `span`, and reports those with no end or with two.

    Of a stream these are all between the first and the last whose frame was captured, or that was recorded as missing,
    within the span. Uploads are numbered by their senders: only their frames are looked at.
    """
    ends = CameraEnds(camera.key)
    report.cameras.append(ends)
    for (epoch,) in db.execute(_STREAMS, {"camera": camera.id}).fetchall():
        _audit_stream(db, camera, epoch, span, ends, report)


def _audit_stream(
    db: sqlite3.Connection, camera: CameraRow, epoch: str, span: Span, ends: CameraEnds, report: AuditReport
) -> None:
    stream = {"camera": camera.id, "epoch": epoch}
    row = db.execute("select durable_seq from position where camera = :camera and epoch = :epoch", stream).fetchone()
    position: int | None = row[0] if row else None
    low, high = db.execute(_BOUNDS, stream | {"from_us": span.from_us, "to_us": span.to_us}).fetchone()
    if span == ALWAYS and position is not None:
        low, high = 1, max(position, high or 0)
    if low is None or low > high:
        return
    bounds = stream | {"low": low, "high": high}
    _audit_frames(db, camera, bounds, ends, report)
    ranges = db.execute(_RANGES, bounds).fetchall()
    for from_seq, to_seq, reason in ranges:
        count = covered([(from_seq, to_seq)], low, high)
        ends.ends[End.EXPIRED if reason == "expired" else End.MISSING] += count
        if reason != "expired":
            ends.reasons[reason] += count
            if not reason:
                report.fault(FaultKind.NO_REASON, camera.key, f"{epoch}: {from_seq} to {to_seq} are missing", count)
            if reason == RECEIVER_RESTORED:
                report.fault(FaultKind.LOST, camera.key, f"{epoch}: {from_seq} to {to_seq}", count)
    frames: Iterator[Interval] = db.execute(_NUMBERS, bounds)
    last_known = high if position is None else min(high, position)
    for is_hole, (first, last) in holes_and_overlaps([frames, [(a, b) for a, b, _ in ranges]], low, last_known):
        if not is_hole:
            report.fault(FaultKind.TWO_ENDS, camera.key, f"{epoch}: {first} to {last}", last - first + 1)
        elif position is not None:
            report.fault(FaultKind.NO_END, camera.key, f"{epoch}: {first} to {last}", last - first + 1)
    if position is not None and high > position:
        report.fault(FaultKind.BEYOND_POSITION, camera.key, f"{epoch}: {high}, position {position}", high - position)


def _audit_frames(
    db: sqlite3.Connection, camera: CameraRow, bounds: dict[str, object], ends: CameraEnds, report: AuditReport
) -> None:
    """Sorts the frames by their end; `analysed` is taken for told here, its messages are looked at by session."""
    for state, reason, analysis, batched, session, count, first in db.execute(_FRAMES, bounds).fetchall():
        where = f"{bounds['epoch']}: {first}" + (f" and {count - 1} more" if count > 1 else "")
        is_open = session == "open"
        if session is None:
            report.fault(FaultKind.OUTSIDE_SESSION, camera.key, f"{where}: its session is not there", count)
        if analysis and state != "analysed":
            report.fault(FaultKind.TWO_ENDS, camera.key, f"{where}: {state}, and has an analysis", count)
        match state:
            case "pending":
                ends.ends[End.WAITING] += count
                if not is_open:
                    report.fault(FaultKind.UNFINISHED, camera.key, f"{where}: waits in a closed session", count)
            case "failed":
                ends.ends[End.FAILED] += count
                if not reason:
                    report.fault(FaultKind.NO_REASON, camera.key, f"{where}: failed", count)
            case "erased":
                ends.ends[End.ERASED] += count
            case "analysed":
                ends.ends[End.TOLD if batched else End.WAITING] += count
                if not analysis:
                    report.fault(FaultKind.NO_ANALYSIS, camera.key, where, count)
                elif not batched and not is_open:
                    report.fault(FaultKind.UNBATCHED, camera.key, where, count)
