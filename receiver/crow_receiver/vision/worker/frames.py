"""The frames that a worker is at: asked for, decoded, given to the engine, answered.

Invariants
1. One thread, the one that calls `run`, calls the engine and owns `_frames`; others only put something into its inbox.
2. Each frame that is asked for gets one answer, after which it is forgotten. One that is to be aborted while its
   picture is decoded is answered when the decoder is through with it: until then it is not got rid of.
3. A picture that shows what its reference shows never reaches the engine.
4. Nobody waits for the engine's next step but what has come since the last one.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from crow_receiver.vision.decode import decode
from crow_receiver.vision.likeness import Sketch, alike, sketch
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import Engine, Finished, VisionRequest
from crow_receiver.vision.schema import Analysis, Provenance
from crow_receiver.vision.worker.protocol import Abort, Aborted, Answer, Describe, Described, Failed, Unchanged
from crow_shared.errors import CrowError

DECODERS = 2  # threads
_STEP_WAIT_S = 0.02  # how long an engine that only waits may keep new frames waiting


@dataclass(frozen=True, slots=True)
class Asked:
    """A frame to describe."""

    ask: Describe
    coded: bytes


@dataclass(frozen=True, slots=True)
class _Decoded:
    frame_id: int
    picture: Pixels | CrowError
    sketch: Sketch = b""
    unchanged: bool = False


@dataclass(slots=True)
class _Frame:
    request: VisionRequest
    began_s: float
    sketch: Sketch = b""
    begun: bool = False  # the engine has it
    aborted: bool = False


class Frames:
    """The worker's desk."""

    def __init__(self, engine: Engine, answer: Callable[[Answer, bytes], None]) -> None:
        self._engine = engine
        self._answer = answer
        self._inbox: queue.SimpleQueue[Asked | Abort | _Decoded] = queue.SimpleQueue()
        self._frames: dict[int, _Frame] = {}
        self._begun = 0
        self._to_decode: queue.SimpleQueue[tuple[Describe, VisionRequest]] = queue.SimpleQueue()
        self._step_began_s: float | None = None

    def put(self, order: Asked | Abort) -> None:
        """Hands in what the supervisor wants; from any thread."""
        self._inbox.put(order)

    @property
    def step_s(self) -> float:
        """For how long the engine has been at its present step; 0 while it is at none."""
        began_s = self._step_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def run(self) -> None:
        """Works for ever."""
        for _ in range(DECODERS):
            threading.Thread(target=self._decode, name="decode", daemon=True).start()
        while True:
            self._take_in()
            if self._begun:
                self._go_on()

    def _take_in(self) -> None:
        """Takes in what has come; waits for it only while the engine has nothing to do."""
        try:
            while True:
                self._take(self._inbox.get(block=not self._begun))
        except queue.Empty:
            return

    def _take(self, event: Asked | Abort | _Decoded) -> None:
        match event:
            case Asked(ask, coded):
                request = ask.request(coded)
                self._frames[ask.id] = _Frame(request, time.monotonic())
                self._to_decode.put((ask, request))
            case Abort(id=frame_id):
                self._abort(frame_id)
            case _Decoded():
                self._begin(event)

    def _decode(self) -> None:
        """Decodes for ever, in a thread of its own."""
        while True:
            ask, request = self._to_decode.get()
            try:
                picture = decode(request.encoding, request.coded, self._engine.least_side)
            except CrowError as error:
                self._inbox.put(_Decoded(ask.id, error))
                continue
            drawn = sketch(picture) if ask.sketched else b""
            unchanged = bool(request.reference) and alike(request.reference, drawn)
            self._inbox.put(_Decoded(ask.id, picture, drawn, unchanged))

    def _begin(self, decoded: _Decoded) -> None:
        frame_id, picture = decoded.frame_id, decoded.picture
        frame = self._frames[frame_id]
        frame.sketch = decoded.sketch
        if frame.aborted:
            self._end(frame_id, Aborted(id=frame_id))
            return
        if decoded.unchanged:
            self._end(frame_id, Unchanged(id=frame_id))
            return
        try:
            if isinstance(picture, CrowError):
                raise picture
            self._engine.begin(frame_id, frame.request, picture)
        except CrowError as error:
            self._end(frame_id, Failed.of(frame_id, error))
            return
        frame.begun = True
        self._begun += 1

    def _abort(self, frame_id: int) -> None:
        frame = self._frames.get(frame_id)
        if frame is None:
            return
        if frame.begun:
            self._engine.abort(frame_id)
            self._end(frame_id, Aborted(id=frame_id))
        else:
            frame.aborted = True

    def _go_on(self) -> None:
        self._step_began_s = time.monotonic()
        ended = self._engine.step(_STEP_WAIT_S)
        self._step_began_s = None
        for finished in ended:
            if isinstance(finished.scene, CrowError):
                self._end(finished.key, Failed.of(finished.key, finished.scene))
            else:
                analysis = Analysis(scene=finished.scene, provenance=self._provenance(finished))
                drawn = self._frames[finished.key].sketch
                self._end(finished.key, Described(id=finished.key, analysis=analysis), drawn)

    def _end(self, frame_id: int, answer: Answer, body: bytes = b"") -> None:
        self._begun -= self._frames.pop(frame_id).begun
        self._answer(answer, body)

    def _provenance(self, finished: Finished) -> Provenance:
        engine = self._engine
        return Provenance(
            engine=engine.name,
            model=finished.model or engine.model,
            model_sha256=engine.model_sha256,
            quantization=engine.quantization,
            prompt_version=engine.prompt_version,
            limits=list(engine.limits),
            duration_ms=round((time.monotonic() - self._frames[finished.key].began_s) * 1000),
            usage=finished.usage,
        )
