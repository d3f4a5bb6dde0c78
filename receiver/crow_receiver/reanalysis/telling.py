"""Tells with a run's answers what was told before: batches, minutes and sessions under their next revision.

A session at a time, in one transaction that also notes that it was told: a run that is cut off goes on with the next
session, and no message is written twice. The receiver's dispatcher, running now or later, takes them to the queues.
"""

import sqlite3
from collections.abc import Callable

from crow_receiver.session.records import BatchLimits, Revised, revise
from crow_receiver.store import reanalyses
from crow_shared.database import transaction


def tell(
    db: sqlite3.Connection, run: int, limits: BatchLimits, now_us: int, progress: Callable[[int], object]
) -> Revised:
    """Tells all sessions of the run that were not told yet; `progress` hears of each."""
    batches = too_large = 0
    for session_id, _ in reanalyses.sessions_of(db, run):
        with transaction(db):
            revision = reanalyses.mark_told(db, run, session_id)
            if revision is not None:
                revised = revise(db, session_id, run, revision, limits, now_us)
                batches, too_large = batches + revised.batches, too_large + revised.too_large
        progress(1)
    return Revised(batches, too_large)
