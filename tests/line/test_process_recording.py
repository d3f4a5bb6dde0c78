"""`crow-daemon process`: recordings through the whole line, by a running daemon and without one, interrupted or not."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from camera_rig import write_clip
from line_parts import QUICK_SESSIONS

from crow_sim.line import DaemonService, ReceiverService

pytestmark = [pytest.mark.line, pytest.mark.timeout(120)]

START_US = 1_795_338_000_000_000
SECONDS = 20


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    return write_clip(folder / "20261122T090000Z.mp4", "h264", seconds=SECONDS, gop_s=1)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverService]:
    with ReceiverService(tmp_path / "receiver", QUICK_SESSIONS) as service:
        yield service


@pytest.fixture
def daemon(tmp_path: Path, receiver: ReceiverService) -> Iterator[DaemonService]:
    service = DaemonService(tmp_path / "daemon", receiver.grpc_address)
    yield service
    service.close()


def captures(receiver: ReceiverService, camera: str = "monday", fps: int = 1) -> list[int]:
    """Capture times at the receiver, in samples from the recordings' beginning."""
    with sqlite3.connect(f"file:{receiver.directory / 'receiver.db'}?mode=ro", uri=True) as db:
        query = "select capture_us from frame join camera on camera.id = frame.camera where camera_id = ?"
        rows = db.execute(query, (camera,)).fetchall()
    db.close()
    return sorted(round((row[0] - START_US) * fps / 1_000_000) for row in rows)


def expected(database: Path, table: str) -> Counter[int]:
    """The samples that a ledger accounts for, by minute."""
    found = Counter[int]()
    if database.exists():
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10) as db:
            is_there = db.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone()
            rows = db.execute(f"select minute_us, sent, gated, dropped from {table}") if is_there else []
            for minute_us, sent, *held in rows:
                found[minute_us] += sent + sum(sum(json.loads(reasons).values()) for reasons in held)
        db.close()
    return found


def booked_as_sent(daemon: DaemonService) -> int:
    with sqlite3.connect(f"file:{daemon.directory / 'ledger.db'}?mode=ro", uri=True) as db:
        (sent,) = db.execute("select sum(sent) from minute").fetchone()
    db.close()
    return int(sent)


def last_counters(daemon: DaemonService, camera: str) -> dict[str, int]:
    return next(one["counters"] for one in last_status(daemon)["cameras"] if one["camera_id"] == camera)


def last_status(daemon: DaemonService) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((daemon.directory / "status.json").read_text())
    return told


def begin(daemon: DaemonService, *words: str) -> subprocess.Popen[str]:
    command = str(Path(sys.executable).with_name("crow-daemon"))
    return subprocess.Popen(
        [command, "process", *words], env=daemon._environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_without_a_daemon_the_command_reads_and_delivers_by_itself(
    receiver: ReceiverService, daemon: DaemonService, recording: Path
) -> None:
    daemon.run("camera", "add", "other", "--url", "rtsp://127.0.0.1:1/none")
    told = daemon.run("process", str(recording), "--camera", "monday")
    assert told == f"camera monday: {SECONDS} samples, {SECONDS} sent, 0 gated, 0 dropped; the receiver has them\n"
    assert captures(receiver) == list(range(SECONDS))
    states = {camera["camera_id"]: camera["state"] for camera in last_status(daemon)["cameras"]}
    assert states == {"monday": "finished", "other": "stopped"}
    assert daemon.run("process", str(recording), "--camera", "monday") == "", "it was read before"
    assert captures(receiver) == list(range(SECONDS))


def test_a_running_daemon_is_given_the_recordings_in_order_of_time(
    receiver: ReceiverService, daemon: DaemonService, recording: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for minute in (2, 0, 1):
        (folder / f"20261122T09{minute:02}00Z.mp4").write_bytes(recording.read_bytes())
    daemon.start()
    told = daemon.json("process", str(folder), "--camera", "monday", "--fps", "0.5")
    assert (told["sent"], told["delivered"], len(told["recordings"])) == (3 * SECONDS // 2, True, 3)
    assert captures(receiver) == [60 * minute + second for minute in range(3) for second in range(0, SECONDS, 2)]
    assert daemon.stop() == 0


@pytest.mark.parametrize(("gate", "how", "seconds"), [("off", signal.SIGINT, 30), ("activity", signal.SIGKILL, 400)])
def test_interrupted_at_any_time_it_ends_with_the_frames_and_the_ledger_of_one_that_was_not(
    gate: str, how: signal.Signals, seconds: int, receiver: ReceiverService, daemon: DaemonService, tmp_path: Path
) -> None:
    longer = write_clip(tmp_path / "20261122T090000Z.mp4", "h264", seconds=seconds, gop_s=5, moving=gate == "off")
    words = [str(longer), "--fps", "10", "--gate", gate, "--camera", "monday"]
    interruptions = booked = 0
    for _ in range(3):
        process = begin(daemon, *words)
        while process.poll() is None and expected(daemon.directory / "ledger.db", "minute").total() <= booked:
            time.sleep(0.01)
        process.send_signal(how)
        process.communicate(timeout=30)
        booked = expected(daemon.directory / "ledger.db", "minute").total()
        interruptions += 0 < booked < 10 * seconds
    assert interruptions, "it was interrupted before its end"
    daemon.run("process", *words)
    told = expected(daemon.directory / "ledger.db", "minute")
    assert told.total() == 10 * seconds
    assert set(list(told.values())[:-1]) <= {600}, "each minute has its samples"
    assert expected(receiver.directory / "receiver.db", "ledger") == told
    times = captures(receiver, "monday", 10)
    assert len(times) == len(set(times)) == booked_as_sent(daemon)
    assert times == list(range(10 * seconds)) or gate == "activity"


def test_samples_of_other_cameras_count_as_missed_while_one_recording_is_read(
    daemon: DaemonService, recording: Path
) -> None:
    daemon.run("camera", "add", "other", "--url", "rtsp://127.0.0.1:1/none", "--fps", "10")
    daemon.run("process", str(recording), "--camera", "monday", "--like", "other", "--no-wait")
    assert last_counters(daemon, "monday")["sent"] == 10 * SECONDS, "its settings are the other's"
    (other,) = [camera for camera in last_status(daemon)["cameras"] if camera["camera_id"] == "other"]
    assert other["state"] == "stopped"
    with sqlite3.connect(f"file:{daemon.directory / 'ledger.db'}?mode=ro", uri=True) as db:
        rows = [json.loads(row[0]) for row in db.execute("select dropped from minute where camera_id = 'other'")]
    db.close()
    assert sum(row["daemon_down"] for row in rows) >= 5
    assert all(set(row) == {"daemon_down"} for row in rows)
