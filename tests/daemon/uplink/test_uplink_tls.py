"""TLS on the way to the receiver: sessions are taken up again, and an exchanged certificate is followed."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from crow.cctv.v1 import ingest_pb2 as pb
from crow.cctv.v1 import ingest_pb2_grpc
from crow_daemon.settings import UplinkSettings
from crow_daemon.uplink.connection import Dialer

# Keys and certificates that nothing outside these tests believes.
OLD, NEW = (Path(__file__).with_name(f"receiver_{age}.pem").read_bytes() for age in ("old", "new"))


def certificate(pem: bytes) -> bytes:
    return re.findall(rb"-----BEGIN CERTIFICATE.*?END CERTIFICATE-----", pem, re.DOTALL)[0] + b"\n"


class NotesResumption(ingest_pb2_grpc.IngestServiceServicer):
    """Notes of each stream whether its TLS session was an older one."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []

    async def StreamFrames(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.StreamFramesRequest],
        context: "grpc.aio.ServicerContext[pb.StreamFramesRequest, pb.StreamFramesResponse]",
    ) -> AsyncIterator[pb.StreamFramesResponse]:
        await anext(request_iterator)
        self.resumed.append(context.auth_context()["ssl_session_reused"] == [b"true"])
        yield pb.StreamFramesResponse(welcome=pb.Welcome())


@asynccontextmanager
async def served(service: NotesResumption, pem: bytes, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(service, server)
    port = server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([(pem, certificate(pem))]))
    await server.start()
    yield port
    await server.stop(0)


async def connect(dialer: Dialer) -> None:
    async with dialer.channel() as channel:
        call = ingest_pb2_grpc.IngestServiceStub(channel).StreamFrames()
        await call.write(pb.StreamFramesRequest(hello=pb.Hello()))
        async for _ in call:
            pass


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate(OLD))
    return path


async def test_the_second_connection_takes_the_tls_session_up_again(ca_file: Path) -> None:
    service = NotesResumption()
    async with served(service, OLD) as port:
        dialer = Dialer(UplinkSettings(receiver=f"localhost:{port}", tls=True, ca_file=str(ca_file)))
        for _ in range(3):
            await connect(dialer)
    assert service.resumed == [False, True, True]


async def test_a_renewed_certificate_is_followed_and_no_old_session_outlives_its_ca(ca_file: Path) -> None:
    service = NotesResumption()
    async with served(service, OLD) as port:
        dialer = Dialer(UplinkSettings(receiver=f"localhost:{port}", tls=True, ca_file=str(ca_file)))
        await connect(dialer)
        ca_file.write_bytes(certificate(NEW))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connect(dialer)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, "the old one is not believed any more"
    async with served(service, NEW, port):
        await connect(dialer)
        await connect(dialer)
    assert service.resumed == [False, False, True]
