"""The same app behind a real uvicorn, over real sockets."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from rest.fakes import KEY, AppMaker, MemoryIntake

from crow_receiver.rest.body_limit import MAX_BODY_BYTES


@pytest.fixture
async def address(make_app: AppMaker) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(make_app(), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()
        server.should_exit = True
        await task


@pytest.fixture
async def client(address: tuple[str, int]) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"X-Internal-Key": KEY, "X-Organization-Id": "org-1"}
    async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}", headers=headers) as client:
        yield client


async def test_a_frame_travels_over_a_real_connection(
    client: httpx.AsyncClient, intake: MemoryIntake, jpeg: bytes
) -> None:
    opened = await client.post("/api/v1/cctv/sessions", json={"siteId": "site-1", "cameraId": "cam-1"})
    meta = (
        '{"store_id":"site-1","camera_id":"cam-1","bucket_sec":1700000000,"quality":"low","content_type":"image/jpeg"}'
    )
    files = {"meta": (None, meta), "file": ("f.jpg", jpeg, "image/jpeg")}
    accepted = await client.post("/api/v1/cctv/frames", files=files)
    assert (opened.status_code, accepted.status_code) == (201, 202)
    assert [frame.payload for frame in intake.frames.values()] == [jpeg]


async def test_an_endless_upload_is_answered_and_cut_off(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(
        b"POST /api/v1/cctv/frames HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"
        + f"X-Internal-Key: {KEY}\r\n".encode()
        + b"X-Organization-Id: org-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    answer = asyncio.create_task(reader.readuntil(b"\r\n"))
    sent = 0
    while not answer.done():
        assert sent < 8 * MAX_BODY_BYTES, "nobody stopped reading"
        try:
            writer.write(chunk)
            await writer.drain()
        except ConnectionError:
            break
        sent += len(chunk)
        await asyncio.sleep(0)  # lets the server and the reader have their turn
    assert (await answer).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_client_that_hangs_up_leaves_the_server_at_work(
    address: tuple[str, int], client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection(*address)
        writer.write(
            b"POST /api/v1/cctv/frames HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"
            + f"X-Internal-Key: {KEY}\r\n".encode()
            + b"X-Organization-Id: org-1\r\nContent-Length: 1000\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await client.get("/health")).json() == {"status": "ok"}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_documentation_page_needs_nothing_from_outside(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert addresses
    assert all(address.startswith("/") for address in addresses)
    assert [(await client.get(address)).status_code for address in addresses] == [200] * len(addresses)
