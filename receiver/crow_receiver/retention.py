"""Old pictures go, later the records of what was learnt from them; neither while something still waits for them."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from crow_receiver.store import expiry, pictures
from crow_receiver.store.pictures import PictureKeep
from crow_receiver.store.store import Store, Transaction
from crow_shared.clock import Clock
from crow_shared.errors import CrowError

log = structlog.get_logger()

LOOK_S = 2.0
RARE_S = 600.0
SOON_H = 1.0  # pictures kept for less are looked for at every look; for the others ten minutes more do not matter
PICTURES_AT_ONCE = 500  # in one transaction, so that daemons do not wait for it
RECORDS_AT_ONCE = 250
_HOUR_US = 3_600_000_000
_EVER_US = 2**62  # also when the clock was set back


class Retention:
    """Deletes pictures that were received, and records whose session was closed, longer ago than they may be kept."""

    def __init__(self, store: Store, clock: Clock, pictures_h: float, records_h: float) -> None:
        self._store = store
        self._clock = clock
        self._pictures_h = pictures_h
        self._records_h = records_h

    async def run(self) -> None:
        """Deletes now and then until cancelled."""
        rare_s = self._clock.monotonic_s()
        while True:
            everything = self._clock.monotonic_s() >= rare_s
            try:
                await (self.run_once() if everything else self.soon())
            except CrowError as error:
                log.warning("old pictures and records could not be deleted; trying again later", error=error.message)
            if everything:
                rare_s = self._clock.monotonic_s() + RARE_S
            await asyncio.sleep(LOOK_S)

    async def soon(self) -> None:
        """Deletes the pictures that must not be kept for long. Raises CrowError when the store fails."""
        for hours, cameras in _by_hours(await self._keeps()):
            if hours < SOON_H and await self._forget(cameras, hours):
                await self._store.write(pictures.unlink_forgotten)

    async def run_once(self) -> None:
        """Deletes all that is due. Raises CrowError when the store fails."""
        now_us = self._clock.now_us()
        keeps = await self._keeps()
        for hours, cameras in _by_hours(keeps):
            await self._forget(cameras, hours)
        for keep in keeps:
            before_us = now_us - int(max(self._records_h, keep.hours) * _HOUR_US)
            await self._while_more(
                lambda tx, c=keep.row_id, b=before_us: expiry.expire_session(tx, c, b, RECORDS_AT_ONCE)  # type: ignore[misc]
            )
        before_us = now_us - int(self._records_h * _HOUR_US)
        for keep in keeps:
            await self._store.write(lambda tx, c=keep.row_id: expiry.expire_ledger(tx, c, before_us))  # type: ignore[misc]
        await self._while_more(lambda tx: expiry.expire_missing(tx, before_us, RECORDS_AT_ONCE))
        await self._store.write(lambda tx: expiry.forget_old_streams(tx, now_us))
        # Files go after those commits; what a crash leaves in between is found here the next time.
        await self._store.write(pictures.unlink_forgotten)

    async def _keeps(self) -> list[PictureKeep]:
        return await self._store.read(lambda db: pictures.picture_keeps(db, self._pictures_h))

    async def _forget(self, cameras: Sequence[int], hours: float) -> bool:
        """Lets the old pictures of these cameras go; whether that left segments to unlink."""
        before_us = self._clock.now_us() - int(hours * _HOUR_US) if hours else _EVER_US
        emptied = False
        while True:
            gone = await self._store.write(
                lambda tx: pictures.forget_pictures(tx, cameras, before_us, PICTURES_AT_ONCE)
            )
            if not gone.pictures:
                return emptied
            emptied |= gone.emptied

    async def _while_more(self, step: Callable[[Transaction], bool]) -> None:
        while await self._store.write(step):
            pass


def _by_hours(keeps: Sequence[PictureKeep]) -> list[tuple[float, list[int]]]:
    """The cameras whose pictures are kept equally long: theirs share segments that can go as a whole."""
    rows: dict[float, list[int]] = {}
    for keep in keeps:
        rows.setdefault(keep.hours, []).append(keep.row_id)
    return list(rows.items())
