"""What goes wrong on the daemon's own side of the uplink is told, and tried again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crow_daemon.ledger.ledger import SampleLedger
from crow_daemon.settings import UplinkSettings
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import SpoolThread
from crow_daemon.uplink.client import Uplink
from crow_daemon.uplink.protocol import Identity
from crow_shared.clock import SystemClock


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SpoolThread]:
    thread = SpoolThread(lambda: Spool(tmp_path / "spool", SpoolLimits(1 << 20)))
    await thread.start()
    yield thread
    await thread.close()


async def test_a_ca_file_that_is_not_there_is_named_and_does_not_end_the_daemon(
    spool: SpoolThread, tmp_path: Path
) -> None:
    settings = UplinkSettings(receiver="127.0.0.1:1", tls=True, ca_file=str(tmp_path / "none.pem"))
    clock = SystemClock()
    ledger = SampleLedger(tmp_path / "ledger.db", clock)
    identity = Identity("acme", "shop", "box", "e", "1")
    uplink = Uplink(settings, lambda _: identity, list, spool, lambda _: None, ledger, clock)
    running = asyncio.create_task(uplink.run())
    async with asyncio.timeout(5):
        while uplink.last_error is None:
            await asyncio.sleep(0.01)
    assert "none.pem" in uplink.last_error
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ledger.close()
