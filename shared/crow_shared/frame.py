"""The Frame value, and the only code that turns it into the wire format and back."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from zlib import crc32

from crow.cctv.v1 import frame_pb2
from crow_shared.errors import CrowError, Kind

MAX_PICTURE_BYTES = 2 << 20
MAX_PIXELS = 16_000_000
MAX_MESSAGE_BYTES = MAX_PICTURE_BYTES + (64 << 10)  # a picture and everything around it


class Encoding(StrEnum):
    """How a picture is coded."""

    JPEG = "jpeg"
    H264 = "h264"  # a keyframe as the camera sent it: an Annex B access unit, parameter sets first, that decodes alone
    H265 = "h265"  # the same


class TimeSource(StrEnum):
    """Where a capture time comes from, best first."""

    CAMERA = "camera"  # the camera's clock, by its RTCP sender reports
    ARRIVAL = "arrival"  # the daemon's clock, smoothed by the stream's timestamps
    RECORDING = "recording"  # a recording's stated start plus the position in it


@dataclass(frozen=True, slots=True)
class Frame:
    """One sample of one camera: a coded picture and when it was taken.

    `seq` counts from 1 without holes within a camera and spool epoch; 0 means that the spool has not numbered it yet.
    `capture_us` is in microseconds since the Unix epoch, `width` and `height` in pixels. `clock_skew_us` is by how much
    the camera's clock was ahead of the daemon's, None where the camera tells no time. `masked` and `blurred` tell what
    was done to the picture for the privacy of those in it.
    """

    camera_id: str
    capture_us: int
    time_source: TimeSource
    encoding: Encoding
    width: int
    height: int
    payload: bytes
    crc32: int
    seq: int = 0
    clock_skew_us: int | None = None
    masked: bool = False
    blurred: bool = False

    @classmethod
    def of_picture(
        cls,
        camera_id: str,
        capture_us: int,
        time_source: TimeSource,
        width: int,
        height: int,
        payload: bytes,
        encoding: Encoding = Encoding.JPEG,
    ) -> "Frame":
        """A fresh frame around a coded picture, with its checksum."""
        return cls(camera_id, capture_us, time_source, encoding, width, height, payload, crc32(payload))

    def intact(self) -> bool:
        """Whether the payload still has the checksum that it was made with."""
        return crc32(self.payload) == self.crc32


_ENCODINGS = {
    Encoding.JPEG: frame_pb2.PICTURE_ENCODING_JPEG,
    Encoding.H264: frame_pb2.PICTURE_ENCODING_H264,
    Encoding.H265: frame_pb2.PICTURE_ENCODING_H265,
}
_TIME_SOURCES = {
    TimeSource.CAMERA: frame_pb2.TIME_SOURCE_CAMERA,
    TimeSource.ARRIVAL: frame_pb2.TIME_SOURCE_ARRIVAL,
    TimeSource.RECORDING: frame_pb2.TIME_SOURCE_RECORDING,
}
_ENCODING_OF = {number: value for value, number in _ENCODINGS.items()}
_TIME_SOURCE_OF = {number: value for value, number in _TIME_SOURCES.items()}


def to_wire(frame: Frame) -> frame_pb2.Frame:
    """The protobuf message of a frame."""
    return frame_pb2.Frame(**wire_fields(frame))


def wire_fields(frame: Frame) -> dict[str, Any]:
    """The fields of a frame's protobuf message, for who makes it in its place: a message put there is copied."""
    return {
        "camera_id": frame.camera_id,
        "seq": frame.seq,
        "capture_time_us": frame.capture_us,
        "time_source": _TIME_SOURCES[frame.time_source],
        "encoding": _ENCODINGS[frame.encoding],
        "width": frame.width,
        "height": frame.height,
        "crc32": frame.crc32,
        "clock_skew_us": frame.clock_skew_us,
        "masked": frame.masked,
        "blurred": frame.blurred,
        "payload": frame.payload,
    }


def from_wire(message: frame_pb2.Frame) -> Frame:
    """The frame of a protobuf message.

    Raises CrowError(UNSUPPORTED) for an encoding or a time source that this version does not know. What the picture
    holds is not looked at here.
    """
    encoding = _ENCODING_OF.get(message.encoding)
    time_source = _TIME_SOURCE_OF.get(message.time_source)
    if encoding is None or time_source is None:
        raise CrowError(
            Kind.UNSUPPORTED,
            "frame_unsupported",
            f"frame {message.seq} of {message.camera_id[:80]!r} has an encoding ({message.encoding}) or a time source "
            f"({message.time_source}) that this version does not know",
        )
    return Frame(
        camera_id=message.camera_id,
        capture_us=message.capture_time_us,
        time_source=time_source,
        encoding=encoding,
        width=message.width,
        height=message.height,
        payload=message.payload,
        crc32=message.crc32,
        seq=message.seq,
        clock_skew_us=message.clock_skew_us if message.HasField("clock_skew_us") else None,
        masked=message.masked,
        blurred=message.blurred,
    )
