"""What a worker says of its cameras, checked before it is believed: hostile bytes may have taken the worker over.

1. An event or a frame is of a camera that this worker reads, and everything in it is within bounds. Anything else is a
   violation: CrowError "worker_protocol", which costs the worker its life.
2. A capture time that cannot be is none of these: the machine's clock may have been set. What was captured then is not
   taken, and counts as no picture.
3. A camera has at most `MAX_IN_HAND` samples whose outcome is open: the daemon keeps each until then.
4. Texts hold printable characters only, since operators read them on terminals.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from crow.capture.v1 import worker_pb2 as pb
from crow.cctv.v1 import frame_pb2
from crow_daemon.capture.outcome import SENT, Dropped, Outcome
from crow_daemon.capture.source import StreamInfo
from crow_daemon.capture.state import CameraMonitor
from crow_daemon.gate.gate import Alert, GateReason
from crow_daemon.registry.camera import Blur, Camera, Recording
from crow_daemon.worker.wire.framing import MAX_EVENTS, MAX_WORDS_CHARACTERS, violation
from crow_shared.clock import Moment
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Frame, from_wire

MAX_SIDE = 16_384  # pixels
MAX_CLOCKS_APART_US = 600_000_000  # of a camera and us
MAX_IN_HAND = 500  # samples; one report may bring the outcomes of its frames behind all its events
MAX_SPAN_US = 31 * 86_400_000_000  # of a recording, and of ticks that are skipped
_HEARD_LATE_S = 120.0
_MAX_CODE_CHARACTERS = 60
_OUTCOMES: Mapping[str, Outcome] = {
    SENT: SENT,
    **{str(reason): reason for reason in GateReason},
    **{str(reason): reason for reason in Dropped},
}


def check_shape(report: pb.Report) -> None:
    """Raises CrowError(CORRUPT) for more events than one report has, or other lengths than frames."""
    if len(report.events) > MAX_EVENTS or len(report.frames) != len(report.picture_bytes):
        raise violation(f"{len(report.events)} events, {len(report.frames)} frames")


def hear(event: pb.Event, camera: Camera, monitor: CameraMonitor, now: Moment) -> None:
    """Tells the camera's monitor what has happened. Raises CrowError(CORRUPT)."""
    at = _moment(event, now)
    match event.WhichOneof("what"):
        case "connecting":
            monitor.connecting(at)
        case "live":
            monitor.live(_stream(event.live), at)
        case "failed":
            monitor.failed(_failure(event.failed), at)
        case "damaged":
            monitor.damaged(at)
        case "clock_jumps":
            monitor.clock_jumped(_bounded(event.clock_jumps, 1000))
        case "sampled":
            sampled = event.sampled
            if may_be(sampled.capture_us, camera, now):
                skew_us = sampled.clock_skew_us if sampled.HasField("clock_skew_us") else None
                monitor.sampled(sampled.capture_us, _ticks(sampled.skipped_ticks, camera), skew_us, at)
                if monitor.in_hand > MAX_IN_HAND:
                    raise violation("more samples than outcomes")
        case "outcome":
            monitor.outcome(event.outcome.capture_us, _outcome(event.outcome.word))
        case "alert":
            monitor.alert(_alert(event.alert), at)
        case "finished":
            if not isinstance(camera.source, Recording):
                raise violation("a live camera that came to its end")
            monitor.finished(_ticks(event.finished.remaining_ticks, camera), at)
        case "stopped":
            monitor.stopped(at)
        case _:
            raise violation("an event of no kind")


def checked_frame(message: frame_pb2.Frame, picture: bytes, camera: Camera) -> Frame:
    """The frame with its picture. Raises CrowError(CORRUPT)."""
    try:
        frame = from_wire(message)
    except CrowError as error:
        raise violation(error.message) from None
    sides_are_sane = 1 <= frame.width <= MAX_SIDE and 1 <= frame.height <= MAX_SIDE
    if frame.payload or not 1 <= len(picture) <= MAX_PICTURE_BYTES or frame.seq or not sides_are_sane:
        raise violation("a frame that is none")
    if (camera.masks and not frame.masked) or (camera.blur is not Blur.OFF and not frame.blurred):
        raise violation("a frame that shows what is to be hidden")
    whole = replace(frame, payload=picture)
    if not whole.intact():
        raise violation("a frame whose checksum is of another picture")
    return whole


def may_be(capture_us: int, camera: Camera, now: Moment) -> bool:
    """Whether a picture of this camera may have been taken then."""
    if isinstance(camera.source, Recording):
        return 0 <= capture_us - camera.source.start_us <= MAX_SPAN_US
    return abs(capture_us - now.wall_us) <= MAX_CLOCKS_APART_US


def words(text: str, most_characters: int) -> str:
    """What can be printed of the beginning of a text."""
    return "".join(character for character in text[:most_characters] if character.isprintable())


def _moment(event: pb.Event, now: Moment) -> Moment:
    """When it happened: both processes share the monotonic clock, so the wall clock's word is ours."""
    monotonic_s = event.monotonic_us / 1_000_000
    if not now.monotonic_s - _HEARD_LATE_S <= monotonic_s <= now.monotonic_s + 0.001:
        raise violation(f"an event that happened {monotonic_s - now.monotonic_s:.3f} s from now")
    return Moment(now.wall_at_us(monotonic_s), monotonic_s)


def _stream(message: pb.Stream) -> StreamInfo:
    fps = message.fps if message.HasField("fps") else None
    if fps is not None and not (math.isfinite(fps) and 0 <= fps <= 1000):
        fps = None
    if message.reader not in ("direct", "pyav") or message.mode not in ("keyframe", "decode"):
        raise violation("a stream that is read in no known way")
    return StreamInfo(
        codec=words(message.codec, _MAX_CODE_CHARACTERS),
        width=_bounded(message.width, MAX_SIDE),
        height=_bounded(message.height, MAX_SIDE),
        fps=fps,
        end_us=message.end_us if message.HasField("end_us") else None,
        reader="direct" if message.reader == "direct" else "pyav",
        mode="keyframe" if message.mode == "keyframe" else "decode",
        why=words(message.why, MAX_WORDS_CHARACTERS),
    )


def _failure(message: pb.Failure) -> CrowError:
    try:
        kind = Kind(message.kind)
    except ValueError:
        raise violation("a failure of no kind") from None
    return CrowError(kind, words(message.code, _MAX_CODE_CHARACTERS), words(message.message, MAX_WORDS_CHARACTERS))


def _outcome(word: str) -> Outcome:
    if word not in _OUTCOMES:
        raise violation("an outcome in a word that is not known")
    return _OUTCOMES[word]


def _alert(word: str) -> Alert | None:
    if word and word not in set(Alert):
        raise violation("an alert in a word that is not known")
    return Alert(word) if word else None


def _ticks(ticks: int, camera: Camera) -> int:
    return _bounded(ticks, MAX_SPAN_US // camera.sample_interval_us)


def _bounded(value: int, most: int) -> int:
    if value > most:
        raise violation(f"a number beyond all bounds: {value}")
    return value
