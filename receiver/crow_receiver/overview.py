"""What the receiver holds, counted: `crow-receiver status`. Reads the databases; the receiver need not run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crow_receiver.queue.port import OutputQueue
from crow_receiver.store import ledger
from crow_receiver.store.engines import kept_engines
from crow_receiver.store.frames import analysis_backlog
from crow_receiver.store.ledger import LedgerSums
from crow_receiver.store.migrations import migrations
from crow_receiver.store.outbox import waiting
from crow_receiver.vision.engine_state import EngineState
from crow_shared.clock import Clock, SystemClock
from crow_shared.database import open_database

_CAMERAS = """
    select organization_id || '/' || site_id || '/' || camera_id, name,
        (select count(*) from frame where camera = c.id),
        (select count(*) from frame where camera = c.id and state = 'pending'),
        (select count(*) from frame where camera = c.id and state = 'analysed'),
        (select count(*) from frame where camera = c.id and state = 'failed'),
        (select count(*) from frame where camera = c.id and state = 'erased'),
        (select coalesce(sum(to_seq - from_seq + 1), 0) from missing where camera = c.id),
        (select count(*) from session where camera = c.id),
        (select count(*) from session where camera = c.id and state = 'open'),
        (select count(*) from analysis join frame on frame.id = analysis.frame
            where frame.camera = c.id and batch_index is null)
    from camera as c order by 1"""


@dataclass(frozen=True, slots=True)
class LastHour:
    """What became of the samples of the last hour, as far as the camera's daemon has told."""

    minutes: int
    expected: int
    sent: int
    gated: dict[str, int]
    dropped: dict[str, int]
    seen_percent: float | None
    alerts: list[str]

    @classmethod
    def of(cls, sums: LedgerSums) -> "LastHour":
        """Of these sums."""
        counts = (sums.minutes, sums.expected, sums.sent, dict(sums.gated), dict(sums.dropped))
        return cls(*counts, sums.seen_percent, sorted(sums.alerts))


@dataclass(frozen=True, slots=True)
class CameraOverview:
    """Frames of one camera by what became of them; stored is their sum.

    `late_waiting` of those that wait came long after their capture; `behind_s` and `late_behind_s` are for how long the
    oldest frame of now, and the oldest late one, have waited.
    `missing` are numbers that its daemon reported as lost or that were refused, `unbatched` analyses that no message
    holds yet.
    """

    camera: str
    name: str
    stored: int
    waiting: int
    analysed: int
    failed: int
    erased: int
    missing: int
    sessions: int
    open_sessions: int
    unbatched: int
    late_waiting: int
    behind_s: float
    late_behind_s: float
    last_hour: LastHour


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything countable; `outbox` are messages committed and not yet on a queue.

    `engines` are as the receiver that runs, or ran last, saw them.
    """

    engines: list[EngineState]
    cameras: list[CameraOverview]
    failures: dict[str, int]
    outbox: int
    queues: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        return asdict(self)


def overview(state_dir: Path, queue: OutputQueue, clock: Clock | None = None) -> Overview:
    """Counts what lies in `state_dir`. Raises CrowError when it cannot be read."""
    db = open_database(state_dir / "receiver.db", migrations)
    try:
        now_us = (clock or SystemClock()).now_us()
        backlog = {
            str(row.camera.key): (row.late_waiting, row.behind_s(now_us), row.late_behind_s(now_us))
            for row in analysis_backlog(db)
        }
        hours = {str(camera.key): LastHour.of(sums) for camera, sums in ledger.last_hour(db, now_us)}
        cameras = [CameraOverview(*(*row, *backlog[row[0]], hours[row[0]])) for row in db.execute(_CAMERAS)]
        failures = dict(db.execute("select failure, count(*) from frame where state = 'failed' group by 1 limit 20"))
        outbox = waiting(db).pending
        engines = kept_engines(db)
    finally:
        db.close()
    return Overview(engines, cameras, failures, outbox, [asdict(depth) for depth in queue.depths()])
