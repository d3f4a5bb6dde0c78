"""A daemon and a receiver as real processes, and a count at both ends: what was accepted is told of, once.

The consumer's view comes from whoever drains the queues: deliveries may repeat, messages (by their id) may not.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crow_shared.errors import CrowError
from crow_sim.line import DaemonService, ReceiverService

PATIENCE_S = 120.0  # without anything moving
QUEUES = ("crow-interaction-queue", "crow-pattern-queue")


@dataclass(slots=True)
class Count:
    """What was found; `faults` is empty when the promise held.

    Frames: `accepted` by the spool, `stored`, `missing` with a reason, `analysed` and `failed` at the receiver, `told`
    in interaction messages, `summed` in the latest pattern windows. `duplicates` are deliveries of a message that the
    consumer had seen before.
    """

    accepted: int = 0
    stored: int = 0
    missing: int = 0
    analysed: int = 0
    failed: int = 0
    told: int = 0
    summed: int = 0
    sessions: int = 0
    messages: int = 0
    deliveries: int = 0
    duplicates: int = 0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        return asdict(self)


class CountedLine:
    """One daemon and one receiver that are looked at together."""

    def __init__(self, daemon: DaemonService, receiver: ReceiverService, cameras: Sequence[str]) -> None:
        self.daemon, self.receiver, self.cameras = daemon, receiver, tuple(cameras)
        self.told: list[dict[str, Any]] = []  # the messages that the last `count` saw

    def analysed(self) -> int:
        """Frames analysed so far."""
        return sum(camera["analysed"] for camera in self.receiver.json("status")["cameras"])

    def wait_for_frames(self, analysed: int = 10) -> None:
        """Until so many more frames were analysed than before the call."""
        goal = self.analysed() + analysed
        until(lambda: self.analysed() >= goal, "no frames flow")

    def drain(self) -> None:
        """Stops the cameras, then waits until the spool is empty and every session closed, its messages queued.

        The receiver is restarted with a short gap, so that sessions end soon.
        """
        for camera in self.cameras:
            self.daemon.run("camera", "disable", camera)
        until_at_rest(lambda: self.daemon.json("status"), _delivered, "the spool does not drain")
        self.receiver.restart({"CROW_RECEIVER_SESSION__GAP_S": "1"})
        until_at_rest(lambda: self.receiver.json("status"), _closed, "the sessions do not end")

    def count(self, delivered: Iterable[dict[str, Any]] = ()) -> Count:
        """Takes what is left on the queues after what a consumer was `delivered`, and counts all of it.

        `crow-receiver audit` is asked as well: it knows each number, this count knows what came out at either end.
        """
        bodies = list(delivered)
        for queue in QUEUES:
            bodies += self.receiver.consume(queue)
        count = Count(deliveries=len(bodies))
        self._count_frames(count)
        self._count_messages(count, bodies)
        try:
            self.receiver.run("audit", "--spool", "-", stdin=self.daemon.run("spool", "status", "--json"))
        except CrowError as error:
            count.faults.append(error.message)
        return count

    def _count_frames(self, count: Count) -> None:
        captured = {camera["camera_id"]: camera for camera in self.daemon.json("status")["cameras"]}
        spools = {camera_id: camera["spool"] for camera_id, camera in captured.items()}
        there = {camera["name"]: camera for camera in self.receiver.json("status")["cameras"]}
        for camera in self.cameras:
            accepted, counts = spools[camera]["spooled"], there[camera]
            count.accepted += accepted
            for name in ("stored", "missing", "analysed", "failed", "sessions"):
                setattr(count, name, getattr(count, name) + counts[name])
            if accepted != counts["stored"] + counts["missing"]:
                count.faults.append(f"{camera}: {accepted} accepted, {counts['stored']} stored: {json.dumps(counts)}")
            if accepted != captured[camera]["day"]["sent"]:
                count.faults.append(
                    f"{camera}: {accepted} accepted, by its ledger: {json.dumps(captured[camera]['day'])}"
                )
            if counts["stored"] != counts["analysed"] + counts["failed"]:
                count.faults.append(f"{camera}: stored frames without an end: {json.dumps(counts)}")

    def _count_messages(self, count: Count, bodies: list[dict[str, Any]]) -> None:
        messages: dict[str, dict[str, Any]] = {}
        for body in bodies:
            if messages.setdefault(body["messageId"], body) != body:
                count.faults.append(f"one id, two bodies: {body['messageId']}")
        self.told = list(messages.values())
        count.messages, count.duplicates = len(messages), len(bodies) - len(messages)
        told = Counter(
            (body["sessionId"], frame["frameIndex"])
            for body in messages.values()
            for frame in body.get("frameAnalyses", ())
        )
        count.told = told.total()
        count.faults += [f"told {times} times: {frame}" for frame, times in told.items() if times > 1]
        if count.told != count.analysed:
            count.faults.append(f"{count.analysed} frames analysed, {count.told} told of")
        self._count_windows(count, [body for body in messages.values() if "windowStart" in body])

    def _count_windows(self, count: Count, windows: list[dict[str, Any]]) -> None:
        """The latest revisions of a session's minutes add up to its summary, and all summaries to the frames.

        The coverage of all minutes that have frames adds up to the frames that were accepted.
        """
        latest: dict[tuple[str, int | None], dict[str, Any]] = {}
        for window in sorted(windows, key=lambda body: body["revision"]):
            start = window["windowStart"] if window["kind"] == "window" else None
            latest[window["sessionId"], start] = window
        minutes, summaries = Counter[str](), Counter[str]()
        for (session, start), window in latest.items():
            frames = window["frames"]["analysed"] + window["frames"]["failed"]
            (summaries if start is None else minutes)[session] += frames
        told = {(body["cameraId"], start): body["coverage"] for (_, start), body in latest.items() if start is not None}
        count.faults += [
            f"a minute whose samples nobody told of: {key}" for key, one in told.items() if not one["known"]
        ]
        if (sent := sum(coverage["sent"] for coverage in told.values())) != count.accepted:
            count.faults.append(f"{count.accepted} frames accepted, {sent} sent by the coverage of all minutes")
        count.summed = minutes.total()
        if minutes != summaries:
            count.faults.append(f"minutes {dict(minutes)} do not add up to the sessions' summaries {dict(summaries)}")
        if count.summed != count.analysed + count.failed:
            count.faults.append(f"{count.analysed + count.failed} frames with an end, {count.summed} in windows")


def until(condition: Callable[[], object], otherwise: str, timeout_s: float = PATIENCE_S, poll_s: float = 0.2) -> None:
    """Waits for what other processes bring about; a command that fails meanwhile is tried again."""
    ends = time.monotonic() + timeout_s
    trouble: CrowError | None = None
    while True:
        try:
            if condition():
                return
            trouble = None
        except CrowError as error:
            trouble = error
        assert time.monotonic() < ends, f"{otherwise}: {trouble}"
        time.sleep(poll_s)


def until_at_rest(look: Callable[[], Any], is_done: Callable[[Any], bool], otherwise: str) -> None:
    """Waits until what is seen is done, for as long as it goes on: however much there is, and however slow."""
    seen = look()
    ends = time.monotonic() + PATIENCE_S
    while not is_done(seen):
        assert time.monotonic() < ends, f"{otherwise}: {json.dumps(seen)}"
        time.sleep(0.5)
        before, seen = seen, look()
        if _moving(before) != _moving(seen):
            ends = time.monotonic() + PATIENCE_S


def _delivered(status: dict[str, Any]) -> bool:
    stopped = all(camera["state"] == "disabled" for camera in status["cameras"])
    ledger = status["ledger"]
    is_told = not ledger["unwritten_minutes"] and not ledger["untold_minutes"]
    return stopped and not status["spool"]["waiting"] and is_told


def _closed(counted: dict[str, Any]) -> bool:
    return not counted["outbox"] and not any(camera["open_sessions"] for camera in counted["cameras"])


def _moving(status: dict[str, Any]) -> object:
    """What changes as long as there is progress, at either end."""
    places = [camera.get("spool") or [camera["analysed"], camera["failed"]] for camera in status["cameras"]]
    return places, status.get("outbox"), status.get("ledger")


def free_port() -> int:
    """A port that nobody has now, for a receiver that comes back under its address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
