"""What became of every sample, from a camera to a message, through a killed daemon and a camera that is down."""

import json
import time

import httpx
import pytest
from counted_line import CountedLine, until
from line_parts import PASSWORD, QUICK_SESSIONS, USER

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.server import RtspServer

pytestmark = [pytest.mark.line, pytest.mark.timeout(120)]

PER_S = 5


def test_every_sample_that_was_due_is_told_with_what_became_of_it(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    line = CountedLine(daemon, receiver, ["till"])
    began_s = time.monotonic()
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", str(PER_S))
    line.wait_for_frames()
    daemon.kill()
    time.sleep(3)  # what passes is what is counted
    daemon.start()
    line.wait_for_frames()
    cameras.set_faults("till", Faults(refuse_auth=True, close_after_s=0))
    until(lambda: daemon.json("status")["cameras"][0]["hour"]["dropped"].get("auth_failed", 0) >= 5, "no login")
    line.drain()
    due = (time.monotonic() - began_s) * PER_S
    (there,) = daemon.json("status")["cameras"]
    hour = there["hour"]
    assert hour["expected"] == hour["sent"] + sum(hour["dropped"].values())
    assert hour["expected"] <= due
    assert hour["sent"] == there["spool"]["spooled"]
    assert hour["dropped"]["daemon_down"] >= 3 * PER_S - 1
    assert hour["dropped"]["auth_failed"] >= 5
    (known,) = receiver.json("status")["cameras"]
    told = known["last_hour"]
    for name in ("expected", "sent", "gated", "dropped", "seen_percent"):
        assert told[name] == hour[name]
    assert line.count().faults == []
    assert "% of" in receiver.run("status")
    assert "last hour" in daemon.run("status")
    assert daemon.stop() == receiver.stop() == 0


def test_a_session_is_shown_with_what_became_of_its_samples_and_so_are_the_metrics(
    cameras: RtspServer, receiver: ReceiverService, daemon: DaemonService
) -> None:
    daemon.add_rtsp("till", cameras.url("till"), USER, PASSWORD, "--fps", str(PER_S))
    CountedLine(daemon, receiver, ["till"]).wait_for_frames()
    assert daemon.stop() == 0, "the last word of its ledger goes up before it ends"
    (last_word,) = json.loads((daemon.directory / "status.json").read_text())["cameras"]
    until(lambda: not receiver.json("status")["cameras"][0]["open_sessions"], "the session does not end")
    session_id = receiver.consume("crow-pattern-queue")[-1]["sessionId"]
    gateway = {"X-Internal-Key": QUICK_SESSIONS["INTERNAL_GATEWAY_KEY"], "X-Organization-Id": "local"}
    shown = httpx.get(f"{receiver.rest_url}/api/v1/cctv/sessions/{session_id}", headers=gateway).json()
    assert shown["coverage"]["known"]
    assert shown["coverage"]["sent"] == shown["frames"]["received"] == last_word["spool"]["spooled"]
    sent = 'crow_receiver_samples{camera="till",end="sent",organization="local",reason="",site="shop"}'
    until(
        lambda: f"{sent} {float(last_word['spool']['spooled'])}" in httpx.get(f"{receiver.rest_url}/metrics").text,
        "the metrics do not say what was sent",
    )
    assert receiver.stop() == 0
