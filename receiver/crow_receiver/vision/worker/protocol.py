"""What the receiver and its vision workers say to each other over the worker's standard input and output.

A message is a header of JSON and a body of bytes, each preceded by its length as four bytes, big-endian, header first.

1. The worker's first message in is its `WorkerConfig`. It says `Ready`, or `LoadingFailed` and then its end.
2. After that each `Describe` (body: the coded picture and, behind it, the sketch that it is compared with) is answered
   by exactly one `Described` (body: the picture's sketch, where one is wanted), `Unchanged`, `Failed` or `Aborted` with
   its id, in any order. `Aborted` comes only after an `Abort`; one that crosses with the answer is passed over.
3. No more than `Ready.slots` frames are unanswered at a time.
4. From the first moment on a `Beat` comes every `BEAT_S`, whatever the engine is at.
5. Lengths are checked before anything is allocated: either side may have gone mad.
"""

import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from crow_receiver.vision.brief import Brief
from crow_receiver.vision.likeness import MAX_SKETCH_BYTES
from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.openai.options import OpenAiOptions
from crow_receiver.vision.port import Previous, VisionRequest
from crow_receiver.vision.prompt import Prompt, load_prompt
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding
from crow_shared.zones import Zone

BEAT_S = 1.0
MAX_HEADER_BYTES = 256 << 10
LENGTHS = struct.Struct(">II")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkerConfig(_Message):
    """Which engine a worker runs, and on what: model, files and `llama` are for llama, `openai` for openai.

    `prompt` is what both of them ask; classic asks nothing.
    """

    engine: Literal["llama", "classic", "openai"]
    model: str = ""
    model_path: str = ""
    model_sha256: str = ""
    mmproj_path: str = ""
    mmproj_sha256: str = ""
    llama: LlamaSettings = LlamaSettings()
    openai: OpenAiOptions = OpenAiOptions()
    prompt: Prompt = Field(default_factory=load_prompt)


class Describe(_Message):
    """A frame to describe, as `VisionRequest`; its picture is the message's body."""

    kind: Literal["describe"] = "describe"
    id: int
    camera: str
    camera_name: str
    capture_us: int
    zones: tuple[Zone, ...]
    encoding: Encoding
    brief: Brief
    previous: Previous | None
    sketched: bool  # the picture's sketch is wanted
    reference_bytes: int = Field(ge=0, le=MAX_SKETCH_BYTES)

    @classmethod
    def of(cls, frame_id: int, request: VisionRequest) -> "Describe":
        """The message for a request."""
        return cls(
            id=frame_id,
            camera=request.camera,
            camera_name=request.camera_name,
            capture_us=request.capture_us,
            zones=request.zones,
            encoding=request.encoding,
            brief=request.brief,
            previous=request.previous,
            sketched=request.frame is not None,
            reference_bytes=len(request.reference),
        )

    def request(self, body: bytes) -> VisionRequest:
        """The request that was sent."""
        return VisionRequest(
            self.camera,
            self.camera_name,
            self.capture_us,
            self.zones,
            self.encoding,
            body[: len(body) - self.reference_bytes],
            brief=self.brief,
            previous=self.previous,
            reference=body[len(body) - self.reference_bytes :],
        )


class Abort(_Message):
    """The frame is not wanted any more."""

    kind: Literal["abort"] = "abort"
    id: int


class Ready(_Message):
    """The engine is loaded."""

    kind: Literal["ready"] = "ready"
    engine: str
    model: str | None
    limits: tuple[str, ...]
    slots: int


class Beat(_Message):
    """The worker lives. `step_s`: for how long the engine has been at its present step; `trouble` is the engine's."""

    kind: Literal["beat"] = "beat"
    step_s: float
    trouble: str | None


class Described(_Message):
    """What a frame shows."""

    kind: Literal["described"] = "described"
    id: int
    analysis: Analysis


class Unchanged(_Message):
    """It shows what its reference shows."""

    kind: Literal["unchanged"] = "unchanged"
    id: int


class _Refusal(_Message):
    error_kind: Kind
    code: str
    message: str

    def error(self) -> CrowError:
        """The error that was sent."""
        return CrowError(self.error_kind, self.code, self.message)


class Failed(_Refusal):
    """Why a frame cannot be described."""

    kind: Literal["failed"] = "failed"
    id: int

    @classmethod
    def of(cls, frame_id: int, error: CrowError) -> "Failed":
        """The message for an error."""
        return cls(id=frame_id, error_kind=error.kind, code=error.code, message=error.message)


class LoadingFailed(_Refusal):
    """Why the engine cannot be loaded."""

    kind: Literal["loading_failed"] = "loading_failed"

    @classmethod
    def of(cls, error: CrowError) -> "LoadingFailed":
        """The message for an error."""
        return cls(error_kind=error.kind, code=error.code, message=error.message)


class Aborted(_Message):
    """The frame is forgotten, as asked."""

    kind: Literal["aborted"] = "aborted"
    id: int


Order = Describe | Abort
Answer = Described | Unchanged | Failed | Aborted
Report = Ready | LoadingFailed | Beat | Answer
ORDER: TypeAdapter[Order] = TypeAdapter(Order)
REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def packed(header: BaseModel, body: bytes = b"") -> bytes:
    """A message's bytes."""
    text = header.model_dump_json().encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


def unpacked_lengths(prefix: bytes, most_body_bytes: int = MAX_PICTURE_BYTES + MAX_SKETCH_BYTES) -> tuple[int, int]:
    """The lengths of a message's header and body. Raises CrowError(INTERNAL) when they are beyond the bounds."""
    header_bytes, body_bytes = LENGTHS.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or body_bytes > most_body_bytes:
        raise CrowError(
            Kind.INTERNAL, "worker_protocol", f"a message of {header_bytes} + {body_bytes} bytes is beyond the bounds"
        )
    return header_bytes, body_bytes
