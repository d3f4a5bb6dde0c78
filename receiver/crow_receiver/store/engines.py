"""How the engines are, for `crow-receiver status`, which runs beside the receiver or without it."""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple

from crow_receiver.vision.engine_state import EngineState


def keep_engines(db: sqlite3.Connection, engines: Sequence[EngineState]) -> None:
    """Replaces what was known of engines; in their order."""
    db.execute("delete from engine")
    rows = [(place, *astuple(engine)) for place, engine in enumerate(engines)]
    db.executemany("insert into engine (place, name, trouble, since_us, passed_over) values (?, ?, ?, ?, ?)", rows)


def kept_engines(db: sqlite3.Connection) -> list[EngineState]:
    """What is known of engines, in their order."""
    rows = db.execute("select name, trouble, since_us, passed_over from engine order by place")
    return [EngineState(name, trouble, since_us, bool(passed_over)) for name, trouble, since_us, passed_over in rows]
