"""What the receiver and its vision workers say to each other over the worker's standard input and output.

A message is a header of JSON and a body of bytes, each preceded by its length as four bytes, big-endian, header first.

1. The worker's first message in is its `WorkerConfig`; its first message out is `Ready`, or `Failed` and then its end.
2. After that each `Describe` (body: the coded picture) is answered by one `Described` or `Failed`, in order, singly.
3. Lengths are checked before anything is allocated: either side may have gone mad.
"""

import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding
from crow_shared.zones import Zone

MAX_HEADER_BYTES = 256 << 10
LENGTHS = struct.Struct(">II")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkerConfig(_Message):
    """Which engine a worker runs, and on what; all but `engine` is for `llama` alone."""

    engine: Literal["llama", "classic"]
    model: str = ""
    model_path: str = ""
    model_sha256: str = ""
    mmproj_path: str = ""
    mmproj_sha256: str = ""
    llama: LlamaSettings = LlamaSettings()


class Ready(_Message):
    """The engine is loaded."""

    kind: Literal["ready"] = "ready"
    engine: str
    model: str | None
    limits: tuple[str, ...]


class Describe(_Message):
    """A frame to describe, as `VisionRequest`; its picture is the message's body."""

    camera: str
    camera_name: str
    capture_us: int
    zones: tuple[Zone, ...]
    encoding: Encoding


class Described(_Message):
    """The answer to `Describe`."""

    kind: Literal["described"] = "described"
    analysis: Analysis


class Failed(_Message):
    """A CrowError on its way to the other process."""

    kind: Literal["failed"] = "failed"
    error_kind: Kind
    code: str
    message: str

    @classmethod
    def of(cls, error: CrowError) -> "Failed":
        """The message for an error."""
        return cls(error_kind=error.kind, code=error.code, message=error.message)

    def error(self) -> CrowError:
        """The error that was sent."""
        return CrowError(self.error_kind, self.code, self.message)


Answer = Ready | Described | Failed
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def packed(header: BaseModel, body: bytes = b"") -> bytes:
    """A message's bytes."""
    text = header.model_dump_json().encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


def unpacked_lengths(prefix: bytes) -> tuple[int, int]:
    """The lengths of a message's header and body. Raises CrowError(INTERNAL) when they are beyond the bounds."""
    header_bytes, body_bytes = LENGTHS.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_PICTURE_BYTES:
        raise CrowError(
            Kind.INTERNAL, "worker_protocol", f"a message of {header_bytes} + {body_bytes} bytes is beyond the bounds"
        )
    return header_bytes, body_bytes
