"""kill -9 at random moments costs no accepted frame and doubles no message; `make chaos` does it many times more."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import CAMERAS, Chaos

from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip

sys.path.insert(0, str(Path(__file__).parent))

KILLS = int(os.environ.get("CHAOS_KILLS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

pytestmark = [pytest.mark.line, pytest.mark.timeout(300 + 6 * KILLS)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    clip = small_clip(tmp_path)
    with ThreadedRtspServer(RtspServer(dict.fromkeys(CAMERAS, clip))) as running:
        yield running


def test_kills_cost_no_frame_and_double_no_message(server: RtspServer, tmp_path: Path) -> None:
    verdict = Chaos(tmp_path, server).run(KILLS, SEED)
    print(verdict)
    assert verdict.faults == []
    assert verdict.failed == 0
    assert verdict.accepted > 10 * KILLS


def test_the_harness_catches_a_receiver_that_acknowledges_before_its_commit(server: RtspServer, tmp_path: Path) -> None:
    """The control: a harness that cannot fail proves nothing."""
    wrong = (sys.executable, str(Path(__file__).with_name("wrong_receiver.py")))
    verdict = Chaos(tmp_path, server, wrong).run(4, SEED, victims=("receiver",))
    assert any("accepted" in fault for fault in verdict.faults)
