"""A link that dies without a word is noticed, and what was on it arrives once."""

import asyncio
import time
from pathlib import Path

from ingest_parts import Daemon, Server
from receiver_parts import until
from tcp_proxy import TcpProxy

NOTICED_WITHIN_S = 20


async def noticed_s(daemon: Daemon) -> float:
    began_s = time.monotonic()
    await until(lambda: daemon.uplink.state != "connected", timeout_s=NOTICED_WITHIN_S)
    return time.monotonic() - began_s


async def test_a_dead_link_is_noticed_within_20_s_busy_or_idle(server: Server, tmp_path: Path) -> None:
    async with TcpProxy(server.port) as proxy:
        idle, busy = (Daemon(tmp_path / name, proxy.port, name) for name in ("idle", "busy"))
        idle.cameras, busy.cameras = idle.cameras[:1], busy.cameras[1:]
        for daemon in (idle, busy):
            await daemon.start()
        await until(lambda: idle.uplink.state == busy.uplink.state == "connected")
        proxy.go_silent()
        for second in range(50):
            busy.offer("door", second)
        await asyncio.gather(noticed_s(idle), noticed_s(busy))
        proxy.go_on()
        await busy.drained()
        assert await server.stored() == [("door", seq) for seq in range(1, 51)]
        for daemon in (idle, busy):
            await daemon.stop()
