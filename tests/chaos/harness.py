"""Kills one process of the line after the other with kill -9, then counts: nothing lost, nothing told twice.

Frames flow from a real RTSP server through a real daemon to a real receiver with its worker. At random moments of a
seeded sequence one of the three is killed and started again. At the end the line is drained, and a consumer takes every
message.
"""

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer

PAUSE_S = (0.1, 1.2)  # between two kills
DRAIN_S = 120.0
CAMERAS = ("till", "door")
VICTIMS = ("daemon", "receiver", "worker")
SETTINGS = {
    "CROW_RECEIVER_SESSION__GAP_S": "20",  # longer than the line is down, so that a session lives through many kills
    "CROW_RECEIVER_BATCH__FRAMES": "5",
    "CROW_RECEIVER_BATCH__AGE_S": "1",
}


@dataclass(slots=True)
class Verdict:
    """What the count found; `faults` is empty when the promise held."""

    kills: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    analysed: int = 0
    failed: int = 0
    told: int = 0
    messages: int = 0
    sessions: int = 0
    faults: list[str] = field(default_factory=list)


class Chaos:
    """The line under attack."""

    def __init__(self, directory: Path, server: RtspServer, receiver_program: tuple[str, ...] = ()) -> None:
        """`receiver_program` replaces the receiver's command, for variants that are wrong on purpose."""
        settings = SETTINGS | {"CROW_RECEIVER_GRPC__LISTEN": f"127.0.0.1:{_free_port()}"}
        self.receiver = ReceiverService(directory / "receiver", settings)
        if receiver_program:
            self.receiver.program = receiver_program
        self.daemon = DaemonService(directory / "daemon", settings["CROW_RECEIVER_GRPC__LISTEN"])
        self._server = server

    def run(self, kills: int, seed: int, victims: Sequence[str] = VICTIMS) -> Verdict:
        """Kills so many times, drains, and counts."""
        chance = random.Random(seed)
        verdict = Verdict()
        with self.receiver, self.daemon:
            for camera in CAMERAS:
                self.daemon.add_rtsp(camera, self._server.url(camera), "", "", "--fps", "10")
            self._wait_for_frames()
            for _ in range(kills):
                time.sleep(chance.uniform(*PAUSE_S))
                victim = chance.choice(victims)
                verdict.kills[victim] += self._kill(victim)
            self.daemon.stop()
            self._drained()
            self._count(verdict)
            self.receiver.stop()
        return verdict

    def _wait_for_frames(self) -> None:
        ends = time.monotonic() + DRAIN_S
        while sum(c["analysed"] for c in self.receiver.json("status")["cameras"]) < 10:
            assert time.monotonic() < ends, "no frames flow"
            time.sleep(0.1)

    def _kill(self, victim: str) -> int:
        if victim == "worker":
            assert self.receiver.process is not None
            workers = _children(self.receiver.process.pid)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            return bool(workers)
        service = self.daemon if victim == "daemon" else self.receiver
        service.kill()
        service.start()
        return 1

    def _drained(self) -> None:
        """The daemon's spool is empty, and every session is closed with its messages on the queues."""
        self.daemon.start()
        for camera in CAMERAS:
            self.daemon.run("camera", "disable", camera)
        ends = time.monotonic() + DRAIN_S
        while True:
            assert time.monotonic() < ends, f"the line does not drain: {self.receiver.last_words()}"
            time.sleep(0.5)
            status, counted = self.daemon.json("status"), self.receiver.json("status")
            stopped = all(camera["state"] == "disabled" for camera in status["cameras"])
            settled = not counted["outbox"] and not any(camera["open_sessions"] for camera in counted["cameras"])
            if stopped and not status["spool"]["waiting"] and settled:
                return

    def _count(self, verdict: Verdict) -> None:
        spools = {camera["camera_id"]: camera["spool"] for camera in self.daemon.json("status")["cameras"]}
        there = {camera["name"]: camera for camera in self.receiver.json("status")["cameras"]}
        bodies = self.receiver.consume("crow-interaction-queue")
        verdict.messages = len(bodies)
        told = Counter((b["sessionId"], frame["frameIndex"]) for b in bodies for frame in b["frameAnalyses"])
        verdict.told = told.total()
        for camera in CAMERAS:
            accepted, counts = spools[camera]["spooled"], there[camera]
            verdict.accepted += accepted
            verdict.analysed += counts["analysed"]
            verdict.failed += counts["failed"]
            verdict.sessions += counts["sessions"]
            if accepted != counts["stored"] + counts["missing"]:
                verdict.faults.append(f"{camera}: {accepted} accepted, {counts['stored']} stored: {json.dumps(counts)}")
            if counts["stored"] != counts["analysed"] + counts["failed"]:
                verdict.faults.append(f"{camera}: stored frames without an end: {json.dumps(counts)}")
        if len({body["messageId"] for body in bodies}) != len(bodies):
            verdict.faults.append("a message came twice")
        verdict.faults += [f"told {times} times: {frame}" for frame, times in told.items() if times > 1]
        if verdict.told != verdict.analysed:
            verdict.faults.append(f"{verdict.analysed} frames analysed, {verdict.told} told of")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
