"""A receiver that is told to stop while a server is at a frame leaves no process and does the frame later."""

from pathlib import Path

import openai_server
import pytest
from counted_line import free_port, until
from openai_server import SCENE, serving
from vision_parts import gone

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

pytestmark = [pytest.mark.line, pytest.mark.timeout(300)]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_receiver_stops_with_a_frame_under_way_and_does_it_later(tmp_path: Path, shop: RtspServer) -> None:
    config = tmp_path / "receiver.toml"
    address = f"127.0.0.1:{free_port()}"
    with serving() as server:
        config.write_text(
            f"[vision]\nengine = 'openai'\n[[vision.openai.endpoints]]\nurl = '{server.url}'\nmodel = 'shop-model'\n"
        )
        server.scene = SCENE | {"people": []}
        server.fault = openai_server.never
        settings = {"CROW_RECEIVER_CONFIG": str(config), "CROW_RECEIVER_GRPC__LISTEN": address}
        with (
            ReceiverService(tmp_path / "receiver", settings) as receiver,
            DaemonService(tmp_path / "daemon", address) as daemon,
        ):
            daemon.add_rtsp("till", shop.url("till"), "", "", "--fps", "4")
            until(lambda: server.under_way, "no frame is asked about")
            daemon.run("camera", "disable", "till")
            assert receiver.process is not None
            workers = children(receiver.process.pid)
            assert workers
            assert receiver.stop() == 0
            assert all(gone(pid) for pid in workers)
            (seen,) = receiver.json("status")["cameras"]
            assert (seen["analysed"], seen["failed"]) == (0, 0)
            assert seen["waiting"] > 0
            server.fault = None
            receiver.start()
            until(lambda: not receiver.json("status")["cameras"][0]["waiting"], "the frame is not described")
            (done,) = receiver.json("status")["cameras"]
            assert (done["analysed"], done["failed"]) == (done["stored"], 0)
            assert len(server.questions) > done["analysed"], "the frame that was under way was asked about again"
