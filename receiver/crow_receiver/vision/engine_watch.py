"""Writes down how the engines are, for whoever asks: `crow-receiver status` reads the database."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import structlog

from crow_receiver.store.engines import keep_engines
from crow_receiver.store.store import Store, Transaction
from crow_receiver.vision.engine_state import EngineState
from crow_shared.errors import CrowError

log = structlog.get_logger()

LOOK_S = 1.0


class Engines(Protocol):
    """Those who are watched."""

    @property
    def states(self) -> Sequence[EngineState]:
        """How each engine is, in their order."""
        ...


async def watch_engines(engines: Engines, store: Store) -> None:
    """Writes the engines' states at once and whenever they change, until cancelled."""
    written: Sequence[EngineState] = ()
    while True:
        states = engines.states
        if states != written:
            try:
                await store.write(partial(_keep, states))
            except CrowError as error:
                log.warning("the engines' state cannot be written; trying again", error=error.message)
            else:
                written = states
        await asyncio.sleep(LOOK_S)


def _keep(states: Sequence[EngineState], tx: Transaction) -> None:
    keep_engines(tx.db, states)
