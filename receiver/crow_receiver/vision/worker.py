"""The process in which pictures from outside are decoded and described: `python -m crow_receiver.vision.worker`.

It may be killed at any time, by its input or by its supervisor; it keeps nothing that matters.

Invariants
1. Only protocol messages reach the supervisor's pipe: native code that prints goes to standard error.
2. It ends when its standard input ends, and (on Linux) when its parent dies, even in the middle of a frame.
3. It writes no core dump: that would hold pictures.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from typing import BinaryIO

import cv2

from crow_receiver.vision.classic_engine import ClassicEngine
from crow_receiver.vision.port import Engine, VisionRequest
from crow_receiver.vision.schema import Analysis, Provenance
from crow_receiver.vision.worker_protocol import (
    LENGTHS,
    Describe,
    Described,
    Failed,
    Ready,
    WorkerConfig,
    packed,
    unpacked_lengths,
)
from crow_shared.errors import CrowError

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serves frames until standard input ends."""
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    incoming, outgoing = _own_pipes()
    config = _receive(incoming)
    if config is None:
        return
    try:
        engine = _engine(WorkerConfig.model_validate_json(config[0]))
    except CrowError as error:
        _send(outgoing, packed(Failed.of(error)))
        return
    _send(outgoing, packed(Ready(engine=engine.name, model=engine.model, limits=engine.limits)))
    while (message := _receive(incoming)) is not None:
        _send(outgoing, packed(_answer(engine, *message)))


def _engine(config: WorkerConfig) -> Engine:
    cv2.setNumThreads(1)  # one picture's decoding and resizing gain nothing from more
    if config.engine == "classic":
        return ClassicEngine()
    from crow_receiver.vision.llama.engine import LlamaEngine  # noqa: PLC0415 — llama.cpp is an optional extra

    return LlamaEngine.load(config)


def _answer(engine: Engine, header: bytes, coded: bytes) -> Described | Failed:
    started_s = time.monotonic()
    try:
        ask = Describe.model_validate_json(header)
        request = VisionRequest(ask.camera, ask.camera_name, ask.capture_us, ask.zones, ask.encoding, coded)
        scene = engine.describe(request)
    except CrowError as error:
        return Failed.of(error)
    provenance = Provenance(
        engine=engine.name,
        model=engine.model,
        model_sha256=engine.model_sha256,
        prompt_version=engine.prompt_version,
        limits=list(engine.limits),
        duration_ms=round((time.monotonic() - started_s) * 1000),
    )
    return Described(analysis=Analysis(scene=scene, provenance=provenance))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Takes the supervisor's pipes away from everything else in this process."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


def _receive(incoming: BinaryIO) -> tuple[bytes, bytes] | None:
    """The next message's header and body; None at the end of input, in whichever place it comes."""
    prefix = incoming.read(LENGTHS.size)
    if len(prefix) < LENGTHS.size:
        return None
    header_bytes, body_bytes = unpacked_lengths(prefix)
    header, body = incoming.read(header_bytes), incoming.read(body_bytes)
    return (header, body) if len(header) == header_bytes and len(body) == body_bytes else None


def _send(outgoing: BinaryIO, message: bytes) -> None:
    outgoing.write(message)
    outgoing.flush()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
