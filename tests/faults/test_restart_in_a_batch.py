"""A receiver that is restarted in the middle of a batch tells of that batch once; tests/chaos kills it there."""

from pathlib import Path
from typing import Any

import pytest
from counted_line import CountedLine, free_port, until

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

CAMERAS = ("till", "door")
FRAMES = 20
SETTINGS = {
    "CROW_RECEIVER_SESSION__GAP_S": "60",
    "CROW_RECEIVER_BATCH__FRAMES": str(FRAMES),
    "CROW_RECEIVER_BATCH__AGE_S": "600",  # batches are complete by their size alone
}

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


def test_a_batch_that_was_begun_before_a_restart_is_told_of_once(tmp_path: Path, shop: RtspServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        ReceiverService(tmp_path / "receiver", SETTINGS | {"CROW_RECEIVER_GRPC__LISTEN": address}) as receiver,
        DaemonService(tmp_path / "daemon", address) as daemon,
    ):
        for camera in CAMERAS:
            daemon.add_rtsp(camera, shop.url(camera), "", "", "--fps", "4")
        line = CountedLine(daemon, receiver, CAMERAS)

        def looked_at() -> list[dict[str, Any]]:
            seen: list[dict[str, Any]] = receiver.json("status")["cameras"]
            return seen

        until(lambda: any(0 < camera["unbatched"] < FRAMES / 2 for camera in looked_at()), "no batch begins")
        assert receiver.stop() == 0
        assert any(camera["unbatched"] for camera in looked_at()), "it goes on after the restart"
        receiver.start()
        # Twice as many: an hour may end meanwhile, and its last batch with it.
        until(lambda: all(camera["analysed"] >= 2 * FRAMES for camera in looked_at()), "no frames flow")
        line.drain()
        count = line.count()
    assert count.faults == []
    assert (count.missing, count.failed) == (0, 0)
    sizes = [len(body["frameAnalyses"]) for body in line.told if "frameAnalyses" in body]
    assert FRAMES in sizes, "a batch was completed after all"
