"""The process in which pictures from outside are decoded and described.

It may be killed at any time, by its input or by its supervisor; it keeps nothing that matters.

Invariants
1. It ends when its standard input ends, and (on Linux) when its parent dies, even in the middle of a frame.
2. It writes no core dump: that would hold pictures.
3. An error that is not of one frame ends it: its supervisor knows what to do about that, and nobody here does.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

import cv2

from crow_receiver.vision.classic.engine import ClassicEngine
from crow_receiver.vision.port import Engine
from crow_receiver.vision.worker.frames import Asked, Frames
from crow_receiver.vision.worker.pipe import Pipe
from crow_receiver.vision.worker.protocol import (
    BEAT_S,
    ORDER,
    Beat,
    Describe,
    LoadingFailed,
    Ready,
    WorkerConfig,
)
from crow_shared.errors import CrowError

_PR_SET_PDEATHSIG = 1


def load_engine(config: WorkerConfig) -> Engine:
    """The engine, ready for work. Raises CrowError when it cannot be loaded."""
    if config.engine == "classic":
        return ClassicEngine()
    if config.engine == "openai":
        from crow_receiver.vision.openai.engine import OpenAiEngine  # noqa: PLC0415 — no other engine needs HTTP

        return OpenAiEngine(config.openai, config.prompt)
    from crow_receiver.vision.llama.engine import LlamaEngine  # noqa: PLC0415 — llama.cpp is an optional extra

    return LlamaEngine.load(config)


def main(load: Callable[[WorkerConfig], Engine] = load_engine) -> None:
    """Serves frames until standard input ends."""
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = _end
    threading.excepthook = lambda failed: _end(failed.exc_type, failed.exc_value, failed.exc_traceback)
    pipe = Pipe.taken()
    heart = _Heart(pipe)
    threading.Thread(target=heart.run, name="heart", daemon=True).start()
    first = pipe.receive()
    if first is None:
        return
    cv2.setNumThreads(1)  # one picture's decoding and resizing gain nothing from more
    try:
        engine = load(WorkerConfig.model_validate_json(first[0]))
    except CrowError as error:
        pipe.send(LoadingFailed.of(error))
        return
    frames = Frames(engine, pipe.send)
    heart.watch(engine, frames)
    pipe.send(Ready(engine=engine.name, model=engine.model, limits=engine.limits, slots=engine.slots))
    threading.Thread(target=_hear, args=(pipe, frames), name="hear", daemon=True).start()
    frames.run()


class _Heart:
    """Says every second that the process lives, and how the engine is."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._watched: tuple[Engine, Frames] | None = None

    def watch(self, engine: Engine, frames: Frames) -> None:
        """From now on tells of these."""
        self._watched = (engine, frames)

    def run(self) -> None:
        """Beats for ever."""
        never = threading.Event()
        while not never.wait(BEAT_S):
            watched = self._watched
            beat = Beat(step_s=0, trouble=None) if watched is None else _beat(*watched)
            self._pipe.send(beat)


def _beat(engine: Engine, frames: Frames) -> Beat:
    return Beat(step_s=round(frames.step_s, 3), trouble=engine.trouble)


def _hear(pipe: Pipe, frames: Frames) -> None:
    """Hands in what the supervisor says. Ends the process with the end of it: whatever it is at, nobody wants it."""
    while (message := pipe.receive()) is not None:
        header, body = message
        order = ORDER.validate_json(header)
        frames.put(Asked(order, body) if isinstance(order, Describe) else order)
    os._exit(0)


def _end(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Ends the process with an error, whatever its other threads are at."""
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
