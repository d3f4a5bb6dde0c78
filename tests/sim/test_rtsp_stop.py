"""A server that stops while clients are just connecting, as the line's tests do all the time."""

import asyncio
import socket
from pathlib import Path

import pytest

from crow_sim.rtsp.server import RtspServer
from crow_sim.shop.clip import small_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("stop"))


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_connects_while_the_server_stops_is_hung_up_on(clip: Path, turns: int) -> None:
    server = RtspServer({"cam1": clip})
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        for _ in range(turns):  # the loop's turns that the server has for the newcomer before it stops
            await asyncio.sleep(0)
        await server.stop()
        try:
            heard = await asyncio.to_thread(client.recv, 1)
        except ConnectionResetError:
            heard = b""
        assert heard == b""
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("rtsp-")]
