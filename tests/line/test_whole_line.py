"""From a camera to both queues, with real processes, real RTSP and real gRPC."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import httpx
import jsonschema
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from line_parts import PASSWORD, QUICK_SESSIONS, USER

from crow_sim.gemma import write_gemma3
from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer

pytestmark = [pytest.mark.line, pytest.mark.timeout(120)]

SCHEMAS = Path(__file__).parents[2] / "receiver/crow_receiver/schemas"
QUEUES = {"crow-interaction-queue": "interaction-batch-1", "crow-pattern-queue": "pattern-window-1"}


def until(condition: Callable[[], Any], timeout_s: float = 40) -> Any:
    ends = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.1)
    return value


def analysed(receiver: ReceiverService, camera: str) -> int:
    return sum(c["analysed"] for c in receiver.json("status")["cameras"] if c["name"] == camera)


def closed(receiver: ReceiverService) -> dict[str, Any] | None:
    counted: dict[str, Any] = receiver.json("status")
    done = not counted["outbox"] and not any(camera["open_sessions"] for camera in counted["cameras"])
    return counted if done else None


def state(daemon: DaemonService, camera: str) -> str:
    cameras = {c["camera_id"]: c for c in daemon.json("status")["cameras"]}
    return str(cameras[camera]["state"]) if camera in cameras else "unknown"


def test_every_sample_of_two_cameras_is_described_and_told_of_once(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    for name in ("till", "door"):
        daemon.add_rtsp(name, cameras.url(name), USER, PASSWORD, "--fps", "5")
    until(lambda: min(analysed(receiver, "till"), analysed(receiver, "door")) >= 15)
    assert daemon.stop() == 0
    status = json.loads((daemon.directory / "status.json").read_text())
    counted = until(lambda: closed(receiver))
    told: Counter[str] = Counter()
    for queue, schema in QUEUES.items():
        validator = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
        bodies = receiver.consume(queue)
        assert bodies
        assert len({body["messageId"] for body in bodies}) == len(bodies)
        for body in bodies:
            validator.validate(body)
            told[body["cameraId"]] += len(body.get("frameAnalyses", ()))
    for camera, there in zip(status["cameras"], sorted(counted["cameras"], key=lambda c: c["name"]), strict=True):
        counts, spool = camera["counters"], camera["spool"]
        assert counts["expected"] == counts["sent"] + sum(counts["dropped"].values())
        assert counts["sent"] == spool["spooled"] == spool["acknowledged"]
        assert there["stored"] == there["analysed"] == told[there["name"]] == spool["spooled"]
        assert there["sessions"] == 1
    assert receiver.json("audit")["ok"]
    assert receiver.stop() == 0


def test_a_running_receiver_erases_and_keeps_pictures_for_as_long_as_it_is_told(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    for name in ("till", "door"):
        daemon.add_rtsp(name, cameras.url(name), USER, PASSWORD, "--fps", "5")
    until(lambda: min(analysed(receiver, "till"), analysed(receiver, "door")) >= 15)
    early_s = time.time() - 2  # fifteen frames took three seconds
    till, door = (f"local/shop/{name}" for name in ("till", "door"))
    receiver.run("camera", "retention", door, "0")
    span = [datetime.fromtimestamp(time_s, UTC).isoformat() for time_s in (early_s - 3600, early_s)]
    options = ("--camera", till, "--from", span[0], "--to", span[1], "--reason", "asked to", "--yes")
    receipt = receiver.json("erase", *options)
    assert receipt["frames"] == receipt["pictures"] > 0
    assert daemon.stop() == 0
    until(lambda: closed(receiver))
    db = sqlite3.connect(receiver.directory / "receiver.db")
    kept = (
        "select count(*) from frame join camera on camera.id = frame.camera where camera_id = ? and segment is not null"
    )
    until(lambda: db.execute(kept, ("door",)).fetchone() == (0,))
    assert db.execute(kept, ("till",)).fetchone() != (0,)
    db.close()
    audited = receiver.json("audit")
    assert audited["ok"]
    assert {one["camera"]: one["erased"] for one in audited["cameras"]} == {till: receipt["frames"], door: 0}
    assert receiver.stop() == 0


def test_passwords_are_nowhere_to_be_seen(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "5")
    daemon.add_rtsp("wrong", cameras.url("door"), USER, PASSWORD + "x")
    until(lambda: state(daemon, "till") == "live" and state(daemon, "wrong") == "auth_failed")
    until(lambda: analysed(receiver, "till") >= 3)
    assert daemon.process is not None
    shown = [daemon.run("status"), daemon.run("status", "--json"), daemon.run("camera", "show", "till")]
    shown += [daemon.run("camera", "list", "--json"), receiver.run("status", "--json")]
    shown += [Path(f"/proc/{daemon.process.pid}/{file}").read_text() for file in ("cmdline", "environ")]
    assert daemon.stop() == 0
    files = [daemon.log, receiver.log, daemon.directory / "status.json", *receiver.directory.glob("*.db*")]
    files += [file for file in (daemon.directory / "spool").rglob("*") if file.is_file()]
    everything = b"".join([text.encode() for text in shown] + [file.read_bytes() for file in files])
    assert PASSWORD.encode() not in everything
    assert b"canary" not in everything


def test_a_bad_camera_costs_the_others_no_frame(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "5", "--mode", "decode")
    daemon.add_rtsp("wrong", cameras.url("door"), USER, "wrong password")
    daemon.add_rtsp("down", "rtsp://127.0.0.1:1/nobody")
    daemon.add_rtsp("missing", cameras.url("door").replace("door", "attic"), USER, PASSWORD)
    until(lambda: state(daemon, "wrong") == "auth_failed" and state(daemon, "down") == "unreachable")
    until(lambda: analysed(receiver, "till") >= 20)
    until(lambda: state(daemon, "missing") in ("refused", "unreachable"))
    (till,) = [c for c in daemon.json("status")["cameras"] if c["camera_id"] == "till"]
    assert till["reconnects"] == 0
    dropped = till["counters"]["dropped"]
    assert dropped.keys() <= {"connecting", "no_picture"}, (
        dropped
    )  # the simulated camera is late where a machine is busy
    assert daemon.stop() == 0


def test_a_camera_that_is_lost_comes_back(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    cameras.set_faults("till", Faults(close_after_s=2))
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "5")
    until(lambda: daemon.json("status")["cameras"] and daemon.json("status")["cameras"][0]["reconnects"] >= 1)
    cameras.set_faults("till", Faults())
    before = analysed(receiver, "till")
    until(lambda: analysed(receiver, "till") >= before + 10)
    assert daemon.stop() == 0


def test_a_receiver_that_is_killed_goes_on_where_it_was(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    port = receiver.grpc_address
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "10")
    until(lambda: analysed(receiver, "till") >= 12)
    receiver.kill()
    again = ReceiverService(receiver.directory, QUICK_SESSIONS | {"CROW_RECEIVER_GRPC__LISTEN": port})
    with again:
        until(lambda: analysed(again, "till") >= 40)
        assert daemon.stop() == 0
        spool = json.loads((daemon.directory / "status.json").read_text())["cameras"][0]["spool"]
        counted = until(lambda: closed(again))["cameras"][0]
        bodies = again.consume("crow-interaction-queue")
    indexes = [(body["sessionId"], frame["frameIndex"]) for body in bodies for frame in body["frameAnalyses"]]
    assert len(indexes) == len(set(indexes)) == counted["analysed"] == counted["stored"] == spool["spooled"]


def test_a_second_receiver_on_the_same_port_is_refused_with_the_reason(
    receiver: ReceiverService, tmp_path: Path
) -> None:
    other = ReceiverService(tmp_path / "other", {"CROW_RECEIVER_GRPC__LISTEN": receiver.grpc_address})
    with pytest.raises(Exception, match=f"cannot listen on {receiver.grpc_address}"):
        other.start()


def test_the_service_manager_hears_of_start_life_and_stop(receiver: ReceiverService, tmp_path: Path) -> None:
    watched = {"WATCHDOG_USEC": "400000"}
    with DaemonService(tmp_path / "watched", receiver.grpc_address, watched) as daemon:
        until(lambda: daemon.notifications().count("WATCHDOG=1") >= 3)
        assert daemon.stop() == 0
        told = daemon.notifications()
    assert (told.count("READY=1"), told.count("STOPPING=1")) == (1, 1)
    assert told.index("READY=1") < told.index("STOPPING=1")
    assert receiver.stop() == 0
    assert receiver.notifications() == ["READY=1", "STOPPING=1"]


def test_health_and_reflection_are_served(receiver: ReceiverService) -> None:
    with grpc.insecure_channel(receiver.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="crow.cctv.v1.IngestService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection.ServerReflectionInfo(iter([request]))
    assert "crow.cctv.v1.IngestService" in {service.name for service in listed.list_services_response.service}


def test_the_services_stop_when_told_twice(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD)
    until(lambda: state(daemon, "till") == "live")
    for service in (daemon, receiver):
        assert service.process is not None
        service.process.terminate()
        service.process.terminate()
        assert service.process.wait(20) in (0, 143)


def test_rest_and_grpc_meet_in_the_same_sessions(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "5")
    until(lambda: analysed(receiver, "till") >= 1)
    headers = {"X-Internal-Key": "k" * 32, "X-Organization-Id": "local", "X-User-Id": "u1"}
    with httpx.Client(base_url=receiver.rest_url, headers=headers) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 200
        opened = client.post("/api/v1/cctv/sessions", json={"siteId": "shop", "cameraId": "till"})
        assert opened.status_code == 200, "the daemon's frames opened it"
        session = client.get(f"/api/v1/cctv/sessions/{opened.json()['sessionId']}").json()
        assert session["frames"]["received"] >= 1
        other = client.get(
            f"/api/v1/cctv/sessions/{opened.json()['sessionId']}", headers={"X-Organization-Id": "someone-else"}
        )
        assert other.status_code == 404
        metrics = client.get("/metrics").text
    for name in (
        "crow_receiver_connected_daemons 1.0",
        "crow_receiver_queue_",
        'crow_receiver_engine_serves{engine="classic"} 1.0',
    ):
        assert name in metrics
    assert daemon.stop() == 0


def test_a_recording_is_read_with_its_own_times(clip: Path, receiver: ReceiverService, daemon: DaemonService) -> None:
    daemon.run(
        "camera", "add", "monday", "--file", str(clip), "--recorded-at", "2026-03-02T09:59:58+01:00", "--fps", "5"
    )
    until(lambda: state(daemon, "monday") == "finished")
    counted = until(lambda: closed(receiver) if analysed(receiver, "monday") >= 28 else None)
    (camera,) = counted["cameras"]
    assert camera["sessions"] == 2, "the recording crosses an hour"
    bodies = receiver.consume("crow-interaction-queue")
    assert {body["sessionId"] for body in bodies} == {
        "local.shop.monday.20260302T085958000Z",
        "local.shop.monday.20260302T090000000Z",
    }
    assert daemon.stop() == 0


@pytest.mark.llama
def test_gemma_describes_frames_through_the_whole_line(cameras: RtspServer, tmp_path: Path) -> None:
    """The real llama.cpp path with a small, structurally real Gemma-3; its weights are random, so only form counts."""
    pytest.importorskip("llama_cpp")
    text, mmproj = write_gemma3(tmp_path)
    receiver = ReceiverService(tmp_path / "receiver", QUICK_SESSIONS | {"CROW_RECEIVER_VISION__ENGINE": "llama"})
    receiver.run("model", "add", "small", "--model", str(text), "--mmproj", str(mmproj))
    with receiver, DaemonService(tmp_path / "daemon", receiver.grpc_address) as daemon:
        daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", "1")
        until(lambda: analysed(receiver, "till") >= 2, timeout_s=90)
        assert daemon.stop() == 0
        until(lambda: closed(receiver), timeout_s=60)
        bodies = receiver.consume("crow-interaction-queue")
        assert receiver.stop() == 0
    for body in bodies:
        assert (body["engine"]["name"], body["engine"]["model"]) == ("llama", "small")
        assert body["engine"]["modelSha256"] == sha256(text.read_bytes()).hexdigest()
        assert all(frame["description"] for frame in body["frameAnalyses"])
