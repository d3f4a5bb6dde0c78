"""kill -9 at random moments costs no accepted frame and doubles no message; `make chaos` does it many times more."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import CAMERAS, Chaos, Verdict

from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip

KILLS = int(os.environ.get("CHAOS_KILLS", "16"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
LINES = int(os.environ.get("CHAOS_LINES", "1"))  # side by side, each with its share of the kills and a seed of its own

pytestmark = [pytest.mark.line, pytest.mark.timeout(300 + 6 * KILLS)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    clip = small_clip(tmp_path)
    with ThreadedRtspServer(RtspServer(dict.fromkeys(CAMERAS, clip))) as running:
        yield running


def test_kills_cost_no_frame_and_double_no_message(server: RtspServer, tmp_path: Path) -> None:
    def attacked(number: int) -> Verdict:
        return Chaos(tmp_path / str(number), server, SEED + number).run(KILLS // LINES)

    with ThreadPoolExecutor(LINES) as pool:
        verdicts = list(pool.map(attacked, range(LINES)))
    for number, verdict in enumerate(verdicts):
        print(json.dumps({"seed": SEED + number} | verdict.as_json()))
    for verdict in verdicts:
        assert verdict.count.faults == []
        assert verdict.count.missing == 0
        # By rule a frame is set aside, with the reason, when the worker has died over it three times.
        assert verdict.count.failed <= verdict.kills["worker"] // 3
        assert verdict.count.accepted > 3 * KILLS // LINES


def test_the_harness_catches_a_receiver_that_acknowledges_before_its_commit(server: RtspServer, tmp_path: Path) -> None:
    """The control: a harness that cannot fail proves nothing."""
    wrong = (sys.executable, str(Path(__file__).with_name("wrong_receiver.py")))
    verdict = Chaos(tmp_path, server, SEED, wrong).run(4, victims=("receiver",))
    assert verdict.count.missing > 0, "the receiver finds by its daemon's word that it has lost what it acknowledged"
    assert any("lost" in fault for fault in verdict.count.faults), "and its audit says so"
