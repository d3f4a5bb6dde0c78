"""What a message is made of."""

from dataclasses import dataclass

from crow_receiver.vision.schema import Analysis
from crow_shared.frame import TimeSource
from crow_shared.identity import CameraKey


@dataclass(frozen=True, slots=True)
class AnalysedFrame:
    """One frame of a session with its analysis; `frame_index` counts from 0 within the session.

    `stands_for_ms` is the time that a person who is seen in it counts for; 0 when nobody knows it. The rest is as
    `crow_shared.frame.Frame` says it.
    """

    frame_index: int
    capture_us: int
    time_source: TimeSource
    clock_skew_us: int | None
    masked: bool
    blurred: bool
    analysis: Analysis
    stands_for_ms: int


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is true of a session.

    `started_us` is the capture time of its first frame so far: an earlier one may come late. `sample_interval_ms` is
    the time between two samples of the camera, or 0 when nobody said.
    """

    session_id: str
    camera: CameraKey
    camera_name: str
    started_us: int
    sample_interval_ms: int


def as_ms(time_us: int) -> int:
    """The millisecond that a time in microseconds lies in."""
    return time_us // 1000
