"""Old pictures go; what was learnt from them stays."""

import asyncio

import structlog

from crow_receiver.store.frames import forget_pictures, unlink_forgotten
from crow_receiver.store.store import Store
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

EVERY_S = 600.0


class Retention:
    """Deletes pictures that were received longer ago than they may be kept. One that waits for analysis is kept."""

    def __init__(self, store: Store, clock: Clock, pictures_h: float) -> None:
        self._store = store
        self._clock = clock
        self._keep_us = int(pictures_h * 3_600_000_000)

    async def run(self) -> None:
        """Deletes now and then until cancelled."""
        while True:
            try:
                await self.run_once()
            except CrowError as error:
                log.warning("old pictures could not be deleted; trying again later", error=error.message)
            await asyncio.sleep(EVERY_S)

    async def run_once(self) -> int:
        """Deletes what is due and returns the number of segment files. Raises CrowError when the store fails."""
        before_us = self._clock.now_us() - self._keep_us
        await self._store.write(lambda tx: forget_pictures(tx, before_us))
        # Files go after that commit; what a crash leaves in between is found here the next time.
        return await self._store.write(unlink_forgotten)
