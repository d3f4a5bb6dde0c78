"""Real processes: a receiver, a daemon, and an RTSP server with the rendered shop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from line_parts import PASSWORD, QUICK_SESSIONS, USER

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def cameras(clip: Path) -> Iterator[RtspServer]:
    server = RtspServer({"till": clip, "door": clip}, user=USER, password=PASSWORD)
    with ThreadedRtspServer(server):
        yield server


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverService]:
    with ReceiverService(tmp_path / "receiver", QUICK_SESSIONS) as running:
        yield running


@pytest.fixture
def daemon(tmp_path: Path, receiver: ReceiverService) -> Iterator[DaemonService]:
    with DaemonService(tmp_path / "daemon", receiver.grpc_address) as running:
        yield running
