"""Tells the receiver what became of samples, beside the frames of the live stream.

Invariants
1. What the receiver has not acknowledged is told again; what changed is told within `EVERY_S`.
2. One message is under way, of at most `MINUTES_AT_ONCE`: the next one follows its acknowledgement.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from crow_daemon.ledger.tally import LedgerMark, WrittenMinute
from crow_daemon.uplink.lane import Lane
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

EVERY_S = 10.0
AFTER_THE_MINUTE_S = 2.0  # the last samples of a minute are written down by then
MINUTES_AT_ONCE = 500


class Ledger(Protocol):
    """Who knows what became of samples. Methods block, and raise CrowError when the disk refuses."""

    def untold(self, limit: int) -> list[WrittenMinute]:
        """Minutes that the receiver does not have as they are now, those that changed first."""
        ...

    def told(self, marks: Iterable[LedgerMark]) -> None:
        """The receiver has these."""
        ...


class LedgerTelling:
    """What there is to tell, for whoever sends."""

    def __init__(self, ledger: Ledger, wake: Callable[[], None], clock: Clock) -> None:
        """`wake` lets the one who sends look here."""
        self._ledger = ledger
        self._wake = wake
        self._clock = clock
        self._is_due = False
        self._told_minutes = 0  # in the message that is under way

    def is_due(self) -> None:
        """There may be something to tell."""
        self._is_due = True
        self._wake()

    async def run(self) -> None:
        """Looks every `EVERY_S`, so that one look comes just after each minute, until cancelled."""
        while True:
            since_look_s = (self._clock.now_us() / 1_000_000 - AFTER_THE_MINUTE_S) % EVERY_S
            await asyncio.sleep(EVERY_S - since_look_s)
            self.is_due()

    async def send(self, lane: Lane) -> bool:
        """Tells what is due, if the lane takes it now; whether there was anything."""
        if not self._is_due or not lane.protocol.takes_ledger:
            return False
        self._is_due = False
        try:
            minutes = await asyncio.to_thread(self._ledger.untold, MINUTES_AT_ONCE)
        except CrowError as error:
            log.warning("the sample ledger cannot be read; trying again", error=error.message)
            return False
        if not minutes or not lane.protocol.takes_ledger:
            return False
        self._told_minutes = len(minutes)
        await lane.tell_ledger(minutes)
        return True

    async def kept(self, marks: Sequence[LedgerMark]) -> None:
        """The receiver has these. What is told once more does no harm."""
        try:
            await asyncio.to_thread(self._ledger.told, marks)
        except CrowError as error:
            log.warning("what the receiver has of the sample ledger cannot be noted", error=error.message)
            return
        if self._told_minutes == MINUTES_AT_ONCE:
            self.is_due()
