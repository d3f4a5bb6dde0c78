"""Promise: `stop` leaves no task, no socket and no thread, whatever the clients are doing at that moment."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import pytest
from rtsp_client import Client, connected

from crow_sim.rtsp import Faults, RtspServer, ThreadedRtspServer


def open_files() -> set[Path]:
    """The sockets and pipes of this process."""
    targets = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            targets.add(entry.readlink())
    return targets


def datagram_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    tasks, files = asyncio.all_tasks(), open_files()
    yield
    assert asyncio.all_tasks() <= tasks | {asyncio.current_task()}
    assert open_files() <= files
    gc.collect()  # whatever was dropped without being closed warns now, and a warning fails the test


async def test_with_clients_in_every_state(streams: dict[str, Path]) -> None:
    mounts = dict.fromkeys(("well", "silent", "endless", "stalled"), streams["h264"])
    server = RtspServer(mounts)
    server.set_faults("silent", Faults(silent=True))
    server.set_faults("endless", Faults(endless_headers=True))
    server.set_faults("stalled", Faults(stall_after_s=0.0))
    await server.start()
    async with AsyncExitStack() as clients:

        async def client(mount: str) -> Client:
            return await clients.enter_async_context(connected(server, mount))

        await client("well")  # asks for nothing
        described = await client("well")
        await described.ask("DESCRIBE")
        for mount in ("well", "well", "stalled"):
            await (await client(mount)).play()
        by_datagram = await client("well")
        ports = [clients.enter_context(closing(datagram_socket())).getsockname()[1] for _ in range(2)]
        transport = f"RTP/AVP;unicast;client_port={ports[0]}-{ports[1]}"
        await by_datagram.ask("SETUP", f"{by_datagram.url}/track1", Transport=transport)
        await by_datagram.ask("PLAY")
        for mount in ("silent", "endless"):
            asking = await client(mount)
            asking.writer.write(f"DESCRIBE {asking.url} RTSP/1.0\r\nCSeq: 7\r\n\r\n".encode())
        while len(server.requests) < 11:
            await asyncio.sleep(0.01)
        assert (server.players("well"), server.players("stalled")) == (3, 1)
        await server.stop()
        assert (server.players("well"), server.players("stalled")) == (0, 0)
        await described.drain()
        assert described.reader.at_eof()
        with pytest.raises(ConnectionRefusedError):
            await client("well")


@pytest.mark.parametrize("turns", range(12))
async def test_at_any_turn_of_the_loop_while_a_client_comes(streams: dict[str, Path], turns: int) -> None:
    server = RtspServer({"cam": streams["h264"]})
    await server.start()
    connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", server.port))
    for _ in range(turns):
        await asyncio.sleep(0)
    await server.stop()
    with suppress(ConnectionError):
        _, writer = await connecting
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("turns", range(12))
async def test_at_any_turn_of_the_loop_while_a_player_goes(streams: dict[str, Path], turns: int) -> None:
    server = RtspServer({"cam": streams["h264"]})
    await server.start()
    async with connected(server) as client:
        await client.play()
        await client.receive(2)
        client.writer.write_eof()
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()


async def test_while_a_client_reads_nothing_of_what_it_asked_for(streams: dict[str, Path]) -> None:
    server = RtspServer({"cam": streams["h264"]}, faults=Faults(endless_headers=True))
    await server.start()
    async with connected(server) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(f"DESCRIBE {client.url} RTSP/1.0\r\nCSeq: 7\r\n\r\n".encode())
        while not server.requests:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(3):
            await server.stop()


async def test_a_client_that_leaves_in_mid_stream_is_forgotten(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server:
        for _ in range(3):
            async with connected(server) as client:
                await client.play()
                await client.receive(2)
        async with asyncio.timeout(3):
            while server.players("cam") or server._connections:
                await asyncio.sleep(0.01)


async def test_a_stopped_server_starts_again_at_the_same_address(streams: dict[str, Path]) -> None:
    server = RtspServer({"cam": streams["h264"]})
    for _ in range(2):
        await server.start()
        async with connected(server) as client:
            await client.play()
            await client.receive(1)
            await server.stop()
        await server.stop()  # and once more changes nothing
    assert len({request.url for request in server.requests if request.method == "PLAY"}) == 1


def test_the_thread_of_a_threaded_server_ends_with_it(streams: dict[str, Path]) -> None:
    before = set(threading.enumerate())
    with ThreadedRtspServer(RtspServer({"cam": streams["h264"]})) as server:
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["rtsp-server"]
        assert server.port
    assert set(threading.enumerate()) == before
