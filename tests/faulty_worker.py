"""A vision worker with an engine that does what the camera's name says: run as a program in the place of the real one.

A frame's answer has the camera as its description, after the seconds that its name says ("slow 0.2"), or not at all
("never"). "kill" ends the process with whatever else it is at, as soon as nothing is under way that never ends; "bug"
raises what no engine should, "hang" does not return from its step, "refuse" refuses the frame, and "trouble x" is the
engine's trouble from then on.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import Finished, VisionRequest
from crow_receiver.vision.schema import Scene
from crow_receiver.vision.usage import Usage
from crow_receiver.vision.worker.main import main
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind

PROGRAM = (sys.executable, "-P", str(Path(__file__)))
SLOTS = 4


class FaultyEngine:
    name = "faulty"
    model: str | None = None
    model_sha256: str | None = None
    quantization: str | None = None
    prompt_version: str | None = None
    limits: tuple[str, ...] = ()
    least_side = (1, 1)
    trouble: str | None = None

    def __init__(self, slots: int) -> None:
        self.slots = slots or SLOTS
        self._ends_s: dict[int, tuple[float, str]] = {}

    def begin(self, key: int, request: VisionRequest, picture: Pixels) -> None:
        fault, _, seconds = request.camera.partition(" ")
        print(f"begin {request.camera} beside {len(self._ends_s)}", file=sys.stderr, flush=True)
        if fault == "refuse":
            raise CrowError(Kind.INVALID, "refused", "this frame is refused")
        if fault == "trouble":
            self.trouble = seconds or None
        takes_s = float(seconds or 0) if fault == "slow" else 0.0 if fault == "trouble" else 60.0
        self._ends_s[key] = (time.monotonic() + takes_s, request.camera)

    def step(self, wait_s: float) -> list[Finished]:
        time.sleep(wait_s)
        cameras = [camera for _, camera in self._ends_s.values()]
        if "kill" in cameras and not any(camera == "never" for camera in cameras):
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in cameras:
            raise ValueError("a defect of the engine")
        if "hang" in cameras:
            threading.Event().wait()
        ended = [key for key, (ends_s, _) in self._ends_s.items() if ends_s <= time.monotonic()]
        return [Finished(key, scene(self._ends_s.pop(key)[1]), Usage(answer_tokens=7)) for key in ended]

    def abort(self, key: int) -> None:
        print(f"abort {self._ends_s.pop(key)[1]}", file=sys.stderr, flush=True)


def scene(description: str) -> Scene:
    return Scene(people=[], interactions=[], queue_length=None, confidence=0, description=description)


def load(config: WorkerConfig) -> FaultyEngine:
    print(f"load with {config.llama.slots} slots", file=sys.stderr, flush=True)
    return FaultyEngine(config.llama.slots)


if __name__ == "__main__":
    main(load)
