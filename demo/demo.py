"""The whole line on one machine, live: simulated cameras → daemon → receiver → two queues. Run by `make demo`.

Exit code 0 when every frame that the daemon accepted is accounted for, else 1. The figures go to build/demo.json, the
logs stay in build/demo/.
"""

import json
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crow_receiver.overview import overview
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.settings import VisionSettings
from crow_receiver.vision.choose import choose_engines
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_sim.line import DaemonService, ReceiverService
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.shop.clip import write_clip
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.view import VIEWS
from crow_sim.transcode import transcode_for_serving

BUILD = Path("build")
WORK = BUILD / "demo"
MODELS = Path("models")  # Gemma weights that are put here are used: see README
CLIP_SECONDS = 60
CLIP_FPS = 10.0
SAMPLES_PER_SECOND = {"classic": 2.0, "llama": 0.1}  # a 4B model takes a minute a frame on a CPU
GAP_S = {"classic": 5, "llama": 15}  # ends the sessions soon after the cameras stop; in a shop it is five minutes
HEARTBEAT_S = 3  # a gate's longest silence has to be shorter than the session gap
SETTLE_S = {"classic": 60, "llama": 600}  # for the analysis of what was captured; what is not done then still waits
USER, PASSWORD = "demo", "demo:p@ss/word"  # with all that makes URLs break
QUEUES = ("crow-interaction-queue", "crow-pattern-queue")
TERMINAL = sys.stdout.isatty()


@dataclass(frozen=True)
class CameraFigures:
    """What became of one camera's samples; `expected` is sampling rate x time, the rest is counted."""

    camera: str
    expected: int
    gated: int
    dropped: int
    sent: int
    delivered: int
    stored: int
    analysed: int
    failed: int
    waiting: int
    in_messages: int
    sessions: int


def main() -> int:
    """Runs the demo and says whether every frame is accounted for."""
    seconds = demo_seconds()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    clips = prepared_clips(os.environ.get("DEMO_SOURCE") or None)
    (choice,) = choose_engines(VisionSettings(), MODELS.resolve())
    engine = choice.engine
    rate = SAMPLES_PER_SECOND[engine]
    started = time.monotonic()
    server = RtspServer(clips, user=USER, password=PASSWORD)
    with ThreadedRtspServer(server), ReceiverService(WORK / "receiver", receiver_settings(engine)) as receiver:
        say(f"receiver: gRPC {receiver.grpc_address}, REST {receiver.rest_url}/docs, engine {engine}")
        with DaemonService(WORK / "daemon", receiver.grpc_address) as daemon:
            for camera in clips:
                # One camera sends every sample, the other what its activity gate lets through.
                gate = "activity" if camera == "till" else "off"
                daemon.add_rtsp(camera, server.url(camera), USER, PASSWORD, "--fps", str(rate), "--gate", gate)
                say(f"camera {camera}: {server.url(camera)}, {rate:g} samples a second, gate {gate}")
            watch(receiver, daemon, seconds)
            say("stopping the daemon; the receiver finishes what it has")
            daemon_exit = daemon.stop()
            captured = json.loads((daemon.directory / "status.json").read_text())
        counted = settled(receiver, SETTLE_S[engine])
        messages = {queue: receiver.consume(queue) for queue in QUEUES}
        receiver_exit = receiver.stop()
    report = {
        "seconds": seconds,
        "wall_s": round(time.monotonic() - started, 1),
        "engine": messages[QUEUES[0]][0]["engine"] if messages[QUEUES[0]] else None,
        "cameras": [asdict(figures) for figures in camera_figures(captured, counted, messages[QUEUES[0]])],
        "queues": {queue: len(found) for queue, found in messages.items()},
        "exit_codes": {"daemon": daemon_exit, "receiver": receiver_exit},
        "samples": {queue: sample_of(found) for queue, found in messages.items()},
    }
    report["unaccounted"] = unaccounted(report, captured, counted)
    (BUILD / "demo.json").write_text(json.dumps(report, indent=2))
    tell(report)
    return 1 if report["unaccounted"] else 0


def demo_seconds() -> float:
    """DEMO_SECONDS, a minute when it is not set."""
    given = os.environ.get("DEMO_SECONDS") or "60"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 5 <= seconds <= 86_400:
        raise CrowError(Kind.INVALID, "bad_seconds", f"DEMO_SECONDS is {given!r}; it has to be from 5 to 86400")
    return seconds


def sample_of(bodies: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A message worth looking at: of batches the one with most people, cut to two frames; else the last."""
    if not bodies or "frameAnalyses" not in bodies[0]:
        return bodies[-1] if bodies else None
    richest = max(bodies, key=lambda body: sum(len(frame["people"]) for frame in body["frameAnalyses"]))
    frames = sorted(richest["frameAnalyses"], key=lambda frame: -len(frame["people"]))[:2]
    return richest | {"frameAnalyses": frames}


def receiver_settings(engine: str) -> dict[str, str]:
    """Short sessions, and the weights in models/ where there are any."""
    settings = {"CROW_RECEIVER_SESSION__GAP_S": str(GAP_S[engine]), "CROW_RECEIVER_BATCH__AGE_S": "10"}
    return settings | {"CROW_RECEIVER_VISION__MODELS_DIR": str(MODELS.resolve())}


def prepared_clips(source: str | None) -> dict[str, Path]:
    """The footage of the two cameras: the rendered shop, or the user's own clip."""
    if source is not None:
        say(f"preparing {source}")
        clip = BUILD / "demo-source.mp4"
        transcode_for_serving(Path(source), clip)
        return {"aisle": clip, "till": clip}
    clips = {}
    for seed, view in enumerate(("aisle", "till"), 1):
        clips[view] = BUILD / f"demo-{view}.mp4"
        if not clips[view].exists():
            say(f"rendering {CLIP_SECONDS} s of the shop, camera {view}")
            write_clip(clips[view], planned_scene(VIEWS[view], seed, CLIP_SECONDS), CLIP_SECONDS, CLIP_FPS)
    return clips


def watch(receiver: ReceiverService, daemon: DaemonService, seconds: float) -> None:
    """Shows what happens until the time is over."""
    ends = time.monotonic() + seconds
    drawn = 0
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, 1 if TERMINAL else 5))
        lines = [f"  {left:5.0f} s left", *live_lines(receiver, daemon)]
        if TERMINAL and drawn:
            sys.stdout.write(f"\x1b[{drawn}F\x1b[J")
        drawn = len(lines)
        say("\n".join(lines))


def live_lines(receiver: ReceiverService, daemon: DaemonService) -> list[str]:
    """One line per camera and one for the queues."""
    status = json.loads((daemon.directory / "status.json").read_text())
    counted = counts_of(receiver)
    stored = {camera["name"]: camera for camera in counted["cameras"]}
    lines = []
    for camera in status["cameras"]:
        counts, there = camera["counters"], stored.get(camera["camera_id"], {"stored": 0, "analysed": 0, "waiting": 0})
        lines.append(
            f"  {camera['camera_id']:<6} {camera['state']:<10} expected {counts['expected']:>4}  "
            f"gated {sum(counts['gated'].values()):>4}  dropped {sum(counts['dropped'].values()):>4}  "
            f"sent {counts['sent']:>4}  stored {there['stored']:>4}  "
            f"analysed {there['analysed']:>4}  waiting {there['waiting'] + camera['spool']['waiting']:>3}"
        )
    depths = "  ".join(f"{queue['queue']} {queue['ready']}" for queue in counted["queues"])
    return [*lines, f"  queues: {depths}"]


def counts_of(receiver: ReceiverService) -> dict[str, Any]:
    """What `crow-receiver status --json` prints, without a process of its own once a second."""
    queue = EmbeddedQueue(receiver.directory / "queue.db", SystemClock())
    counted = overview(receiver.directory, queue)
    queue.close()
    return counted.as_json()


def settled(receiver: ReceiverService, most_s: float) -> dict[str, Any]:
    """The receiver's figures once every session has closed and every message is on its queue, or the time is over."""
    ends = time.monotonic() + most_s
    while True:
        counted = counts_of(receiver)
        open_sessions = sum(camera["open_sessions"] for camera in counted["cameras"])
        if (not open_sessions and not counted["outbox"]) or time.monotonic() > ends:
            return counted
        time.sleep(0.5)


def camera_figures(
    captured: dict[str, Any], counted: dict[str, Any], batches: list[dict[str, Any]]
) -> list[CameraFigures]:
    """The figures of both ends side by side."""
    there = {camera["name"]: camera for camera in counted["cameras"]}
    told: Counter[str] = Counter()
    for batch in batches:
        told[batch["cameraId"]] += len(batch["frameAnalyses"])
    return [
        CameraFigures(
            camera=(name := camera["camera_id"]),
            expected=camera["counters"]["expected"],
            gated=sum(camera["counters"]["gated"].values()),
            dropped=sum(camera["counters"]["dropped"].values()),
            sent=camera["counters"]["sent"],
            delivered=camera["spool"]["acknowledged"],
            stored=there.get(name, {}).get("stored", 0),
            analysed=there.get(name, {}).get("analysed", 0),
            failed=there.get(name, {}).get("failed", 0),
            waiting=there.get(name, {}).get("waiting", 0),
            in_messages=told[name],
            sessions=there.get(name, {}).get("sessions", 0),
        )
        for camera in captured["cameras"]
    ]


def unaccounted(report: dict[str, Any], captured: dict[str, Any], counted: dict[str, Any]) -> list[str]:
    """Every sum that does not come out, in words; empty when all do."""
    faults = []
    missing = {camera["name"]: camera["missing"] for camera in counted["cameras"]}
    unbatched = {camera["name"]: camera["unbatched"] for camera in counted["cameras"]}
    spools = {camera["camera_id"]: camera["spool"] for camera in captured["cameras"]}
    for figures in report["cameras"]:
        name, spool = figures["camera"], spools[figures["camera"]]
        sums = {
            "expected = sent + gated + dropped": (
                figures["expected"],
                figures["sent"] + figures["gated"] + figures["dropped"],
            ),
            "sent = spooled": (figures["sent"], spool["spooled"]),
            "spooled = acknowledged + waiting": (spool["spooled"], spool["acknowledged"] + spool["waiting"]),
            "acknowledged = stored + missing": (figures["delivered"], figures["stored"] + missing.get(name, 0)),
            "stored = analysed + failed + waiting": (
                figures["stored"],
                figures["analysed"] + figures["failed"] + figures["waiting"],
            ),
            "analysed = told in messages + not yet in a batch": (
                figures["analysed"],
                figures["in_messages"] + unbatched.get(name, 0),
            ),
        }
        faults += [f"{name}: {rule}: {left} is not {right}" for rule, (left, right) in sums.items() if left != right]
        if not figures["analysed"]:
            faults.append(f"{name}: no frame was analysed")
    faults += [f"{name} ended with exit code {code}" for name, code in report["exit_codes"].items() if code]
    return faults


def tell(report: dict[str, Any]) -> None:
    """Prints what happened."""
    say(f"\n{'camera':<8}" + "".join(f"{field:>12}" for field in list(report["cameras"][0])[1:]))
    for figures in report["cameras"]:
        say(f"{figures['camera']:<8}" + "".join(f"{value:>12}" for value in list(figures.values())[1:]))
    engine = report["engine"]
    if engine:
        say(f"\nengine: {engine['name']}" + (f", {engine['model']}" if engine["model"] else ", no model"))
        for limit in engine["limits"]:
            say(f"  {limit}")
    for queue, count in report["queues"].items():
        what = "one, two of its frames" if queue == QUEUES[0] else "the last one"
        say(f"\n{queue}: {count} messages; {what}:\n{json.dumps(report['samples'][queue], indent=2)}")
    if report["unaccounted"]:
        say("\nNOT ACCOUNTED FOR:\n  " + "\n  ".join(report["unaccounted"]))
    else:
        waiting = sum(figures["waiting"] for figures in report["cameras"])
        if waiting:
            say(f"\n{waiting} frames still wait for their analysis, as they would through a restart")
        say(f"\nevery frame is accounted for; figures in {BUILD / 'demo.json'}, logs in {WORK}/*.log")


def say(text: str) -> None:
    """Prints at once."""
    print(text, flush=True)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except CrowError as error:
        raise SystemExit(f"error: {error.message}") from None
