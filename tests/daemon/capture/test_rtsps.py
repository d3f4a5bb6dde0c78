"""Cameras behind TLS, with a certificate that they signed themselves."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_rig import CANARY, USER, CollectingSink, RunningCamera, assert_balanced, rtsp_camera

from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer

CERTIFICATE = Path(__file__).with_name("self_signed_camera.pem")  # key and certificate; worth nothing outside this test


class TlsFront:
    """Takes TLS connections and passes their bytes on to a plain port, both ways."""

    def __init__(self, plain_port: int) -> None:
        self._plain_port = plain_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.port = int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
                outer = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                return
            inner = socket.create_connection(("127.0.0.1", self._plain_port))
            for source, target in ((outer, inner), (inner, outer)):
                thread = threading.Thread(target=self._pump, args=(source, target))
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while received := source.recv(65536):
                target.sendall(received)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def port(streams: dict[str, Path]) -> Iterator[int]:
    with ThreadedRtspServer(RtspServer(streams, user=USER, password=CANARY)) as server:
        front = TlsFront(server.port)
        yield front.port
        front.close()


def test_a_camera_is_read_over_tls(port: int, sink: CollectingSink) -> None:
    with RunningCamera(rtsp_camera(f"rtsps://127.0.0.1:{port}/h264"), sink) as runner:
        assert sink.wait_for(5)
    assert_balanced(runner, sink)
