"""A camera's own keyframes and zones, from a real RTSP server to both queues."""

import time
from pathlib import Path

import pytest

from crow_receiver.store.migrations import migrations
from crow_shared.database import open_database
from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import small_clip

pytestmark = [pytest.mark.line, pytest.mark.timeout(120)]


def test_keyframes_of_both_codecs_are_described_as_the_camera_sent_them(
    tmp_path: Path, receiver: ReceiverService, daemon: DaemonService
) -> None:
    codecs = {"h264": "h264", "h265": "hevc"}
    server = RtspServer({name: small_clip(tmp_path, codec) for name, codec in codecs.items()})  # type: ignore[arg-type]
    with ThreadedRtspServer(server):
        for name in codecs:
            daemon.add_rtsp(name, server.url(name), "", "", "--mode", "keyframe", "--gate", "off")
            daemon.run("camera", "zone", "add", name, "Shelf", "--area", "0%,0% 100%,0% 100%,100% 0%,100%")
        ends = time.monotonic() + 40
        while sum(camera["analysed"] >= 5 for camera in receiver.json("status")["cameras"]) < len(codecs):
            assert time.monotonic() < ends, "it did not happen in time"
            time.sleep(0.1)
    assert daemon.stop() == 0
    while receiver.json("status")["outbox"] or any(c["open_sessions"] for c in receiver.json("status")["cameras"]):
        assert time.monotonic() < ends, "sessions did not end in time"
        time.sleep(0.1)
    db = open_database(tmp_path / "receiver" / "receiver.db", migrations)
    kept = db.execute(
        "select distinct c.camera_id, encoding, state from frame join camera as c on c.id = camera"
    ).fetchall()
    db.close()
    assert sorted(kept) == [("h264", "h264", "analysed"), ("h265", "h265", "analysed")]
    told = receiver.consume("crow-interaction-queue")
    assert {batch["cameraId"] for batch in told} == set(codecs)
    people = [person for batch in told for frame in batch["frameAnalyses"] for person in frame["people"]]
    assert {person["zone"] for person in people} == {"Shelf"}
