"""Kills one process of the line after the other with kill -9, then counts: nothing lost, nothing told twice.

Frames flow from a real RTSP server through a real daemon to a real receiver with its worker, and a consumer takes the
messages on short leases. At random moments of a seeded sequence one of the four is killed, while it works or while it
starts; now and then one is stopped for a while, as a busy or suspended machine does, or restarted in order. At the end
the line is drained, audited, and counted at the consumer.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counted_line import QUEUES, Count, CountedLine, free_port, until

from crow_sim.line import DaemonService, ReceiverService, Service
from crow_sim.rtsp.server import RtspServer

PAUSE_S = (0.05, 0.6)  # between two events
STOPPED_S = (0.1, 2.0)  # SIGSTOP until SIGCONT
STOPS, RESTARTS = 0.05, 0.03  # of all events; the others are kills
HIT_WHILE_STARTING = 0.25  # of the kills; the others wait until the victim is ready
CAMERAS = ("till", "door")
VICTIMS = ("daemon", "receiver", "worker", "consumer")
SETTINGS = {
    "CROW_RECEIVER_SESSION__GAP_S": "20",  # longer than the line is down, so that a session lives through many kills
    "CROW_RECEIVER_BATCH__FRAMES": "5",
    "CROW_RECEIVER_BATCH__AGE_S": "1",
}
CONSUMER = Path(__file__).with_name("consumer.py")


@dataclass(slots=True)
class Verdict:
    """What was done to the line and what the count found; the promise held when `count.faults` is empty."""

    kills: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    restarts: int = 0
    revived: int = 0  # messages whose deliveries the consumer's deaths had used up
    seconds: float = 0.0
    count: Count = field(default_factory=Count)

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        events = {"kills": self.kills.total(), "killed": dict(self.kills), "stops": self.stops}
        others = {"restarts": self.restarts, "revived": self.revived, "seconds": round(self.seconds)}
        return events | others | self.count.as_json()


class Consumer:
    """The consumer's process; it is started again whenever it has died."""

    def __init__(self, state_dir: Path, notes: Path, seed: int) -> None:
        self._command = [sys.executable, str(CONSUMER), str(state_dir), str(notes), str(seed)]
        self._notes = notes
        self.process: subprocess.Popen[bytes] | None = None

    def lives(self) -> subprocess.Popen[bytes]:
        """The process, started if there is none."""
        if self.process is None or self.process.poll() is not None:
            assert self.process is None or self.process.returncode == -signal.SIGKILL, "the consumer failed"
            tests = os.pathsep.join(str(directory) for directory in (CONSUMER.parents[1], CONSUMER.parent))
            self.process = subprocess.Popen(self._command, env={**os.environ, "PYTHONPATH": tests})
        return self.process

    def delivered(self) -> list[dict[str, Any]]:
        """The bodies of all deliveries; a note cut short was not taken note of."""
        if not self._notes.exists():
            return []
        return [json.loads(line) for line in self._notes.read_text().splitlines() if line.endswith("}")]

    def stop(self) -> None:
        """Ends it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


class Chaos:
    """The line under attack."""

    def __init__(self, directory: Path, server: RtspServer, seed: int, receiver_program: tuple[str, ...] = ()) -> None:
        """`receiver_program` replaces the receiver's command, for variants that are wrong on purpose."""
        address = f"127.0.0.1:{free_port()}"
        self.receiver = ReceiverService(directory / "receiver", SETTINGS | {"CROW_RECEIVER_GRPC__LISTEN": address})
        if receiver_program:
            self.receiver.program = receiver_program
        self.daemon = DaemonService(directory / "daemon", address)
        self.consumer = Consumer(directory / "receiver", directory / "deliveries", seed)
        self.line = CountedLine(self.daemon, self.receiver, CAMERAS)
        self._chance = random.Random(seed)
        self._server = server

    def run(self, kills: int, victims: Sequence[str] = VICTIMS) -> Verdict:
        """Kills so many times, drains, and counts."""
        verdict = Verdict()
        began = time.monotonic()
        with self.receiver, self.daemon:
            try:
                for camera in CAMERAS:
                    self.daemon.add_rtsp(camera, self._server.url(camera), "", "", "--fps", "10")
                self.line.wait_for_frames()
                while verdict.kills.total() < kills:
                    self.consumer.lives()
                    time.sleep(self._chance.uniform(*PAUSE_S))
                    self._strike(victims, verdict)
                for service in (self.daemon, self.receiver):
                    service.wait_until_ready()
                self.line.drain()
                verdict.revived = self._consumed()
            finally:
                self.consumer.stop()
            verdict.count = self.line.count(self.consumer.delivered())
            verdict.seconds = time.monotonic() - began
            assert (self.daemon.stop(), self.receiver.stop()) == (0, 0)
        return verdict

    def _strike(self, victims: Sequence[str], verdict: Verdict) -> None:
        victim = self._chance.choice(victims)
        blow = self._chance.random()
        if blow < STOPS:
            with self._stopped(victim):
                time.sleep(self._chance.uniform(*STOPPED_S))
            verdict.stops += 1
        elif blow < STOPS + RESTARTS and (service := self._service(victim)):
            service.wait_until_ready()
            assert service.stop() == 0, service.last_words()
            service.start()
            verdict.restarts += 1
        else:
            verdict.kills[victim] += self._kill(victim)

    def _kill(self, victim: str) -> int:
        service = self._service(victim)
        if victim == "worker":
            self.receiver.wait_until_ready()  # without its first worker it ends, for the service manager to restart
        if service is None:
            pids = self._pids(victim)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            return bool(pids)
        if self._chance.random() >= HIT_WHILE_STARTING:
            service.wait_until_ready()
        assert service.process is not None
        assert service.process.poll() is None, f"ended by itself: {service.last_words()}"
        service.kill()
        service.launch()
        return 1

    @contextmanager
    def _stopped(self, victim: str) -> Iterator[None]:
        pids = self._pids(victim)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _service(self, victim: str) -> Service | None:
        return {"daemon": self.daemon, "receiver": self.receiver}.get(victim)

    def _pids(self, victim: str) -> list[int]:
        match victim:
            case "worker":
                assert self.receiver.process is not None
                pid = self.receiver.process.pid
                return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            case "consumer":
                return [self.consumer.lives().pid]
            case _:
                service = self._service(victim)
                assert service is not None
                assert service.process is not None
                return [service.process.pid]

    def _consumed(self) -> int:
        """Waits until the consumer has taken everything, what died on the way included; how many had died."""
        until(self._queues_are_empty, "the consumer does not come to an end")
        revived = 0
        for queue in QUEUES:
            revived += len(self.receiver.json("queue", "dead", queue))
            self.receiver.run("queue", "replay", queue, "--all")
        until(self._queues_are_empty, "the consumer does not come to an end")
        return revived

    def _queues_are_empty(self) -> bool:
        self.consumer.lives()
        depths = self.receiver.json("status")["queues"]
        return not any(depth[state] for depth in depths for state in ("ready", "leased", "delayed"))
