"""Which reader reads a camera, and what its frames are made of. Pure: no I/O, time is passed in.

What costs least and does what the camera's settings ask is chosen: its own keyframes, unseen, by the reader that keeps
nothing else. What a connection shows (keyframes too far apart, a stream that the direct reader cannot take) is kept in
`StreamMemory` for the next ones, which are then made otherwise, with the reason in `why`.

Invariants
1. `choose` is a function of the camera, the memory and the time alone.
2. Keyframes are sent as they are only where no pixel has to be touched or looked at in them.
3. What was given up is tried again after its time, at the latest when the process starts anew.
"""

from dataclasses import dataclass
from typing import Literal

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframes import KeyframeRhythm
from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    RtspAddress,
    Transport,
    pixels_needed,
)

MODE_CHANGED = "mode_changed"  # the CrowError code of a connection that is to be made in another way, at once
RETRY_DIRECT_S = 3600.0
RETRY_SUBSTREAM_S = 600.0


@dataclass(frozen=True, slots=True)
class Choice:
    """How to connect to a live camera. `substream` says that a second connection serves the gate."""

    reader: Literal["direct", "pyav"]
    mode: Literal["keyframe", "decode"]
    substream: bool
    why: str

    def alike(self, other: "Choice") -> bool:
        """Whether a connection made by the one will do for the other: the reasons may differ."""
        return (self.reader, self.mode, self.substream) == (other.reader, other.mode, other.substream)


class StreamMemory:
    """What earlier connections to one camera have shown. Used by the camera's thread."""

    def __init__(self, camera: Camera) -> None:
        """Of a camera that nothing is known of."""
        self.rhythm = KeyframeRhythm(camera.sample_interval_us)
        self.capture_clock = CaptureClock()
        self._direct_failed: tuple[str, float] | None = None
        self._substream_failed: tuple[str, float] | None = None

    def direct_failed(self, why: str, now_s: float) -> None:
        """The direct reader cannot take the stream, for a reason that ends a sentence."""
        self._direct_failed = why, now_s

    def substream_failed(self, why: str, now_s: float) -> None:
        """The substream cannot be read, for a reason that ends a sentence."""
        self._substream_failed = why, now_s

    def why_not_direct(self, now_s: float) -> str | None:
        """None while the direct reader may be tried."""
        return _still(self._direct_failed, now_s, RETRY_DIRECT_S)

    def why_no_substream(self, now_s: float) -> str | None:
        """None while the substream may be tried."""
        return _still(self._substream_failed, now_s, RETRY_SUBSTREAM_S)


def choose(camera: Camera, address: RtspAddress, memory: StreamMemory, now_s: float) -> Choice:
    """How to connect now, by the monotonic clock."""
    decoded_because = why_decoded(camera, memory.rhythm)
    mode: Literal["keyframe", "decode"] = "keyframe" if decoded_because is None else "decode"
    pyav_because = _why_pyav(camera, address, memory, now_s)
    # What moves in another stream's picture, a moment earlier or later, is not where it is in the one to blur.
    looks = camera.gate is not GateMode.OFF and address.sub_url is not None and camera.blur is Blur.OFF
    keyframes_alone = mode == "keyframe" or pyav_because is None
    no_substream_because = memory.why_no_substream(now_s) if looks else None
    reasons = [
        decoded_because or "the camera's keyframes are sent as they are",
        f"read with libav: {pyav_because}" if pyav_because else "read without libav",
    ]
    if no_substream_because:
        reasons.append(f"the gate looks at the main stream, since the substream fails: {no_substream_because}")
    if keyframes_alone and memory.rhythm.enough is False:
        reasons.append(f"samples are lost: {_shortcoming(camera, memory.rhythm)}")
    return Choice(
        reader="pyav" if pyav_because else "direct",
        mode=mode,
        substream=looks and (keyframes_alone or memory.rhythm.enough is not False) and no_substream_because is None,
        why="; ".join(reasons),
    )


def why_decoded(camera: Camera, rhythm: KeyframeRhythm) -> str | None:
    """Why pictures are decoded at the edge; None where keyframes can be sent as they are."""
    if camera.mode is CaptureMode.DECODE:
        return "set to decode"
    needed = pixels_needed(camera)
    if needed is not None:
        return f"pictures are decoded for {needed}"
    whole_stream_helps = camera.mode is CaptureMode.AUTO and camera.reader is not ReaderChoice.DIRECT
    if whole_stream_helps and rhythm.enough is False:
        return f"pictures are decoded: {_shortcoming(camera, rhythm)}"
    return None


def _why_pyav(camera: Camera, address: RtspAddress, memory: StreamMemory, now_s: float) -> str | None:
    if camera.reader is ReaderChoice.PYAV:
        return "set to pyav"
    if camera.reader is ReaderChoice.DIRECT:
        return None
    if address.transport is Transport.UDP:
        return "the direct reader speaks TCP only"
    if address.url.scheme != "rtsp":
        return "the direct reader speaks no TLS"
    failed = memory.why_not_direct(now_s)
    if failed is not None:
        return failed
    if memory.rhythm.enough is False and camera.mode is not CaptureMode.KEYFRAME:
        return "the direct reader keeps keyframes alone"
    return None


def _shortcoming(camera: Camera, rhythm: KeyframeRhythm) -> str:
    if rhythm.useless is not None:
        return f"its keyframes {rhythm.useless}"
    due = f"samples are due every {camera.sample_interval_ms / 1000:g} s"
    if rhythm.longest_us is None:
        return f"{due}, which is more often than cameras make keyframes"
    return f"keyframes come {rhythm.longest_us / 1_000_000:.1f} s apart, {due}"


def _still(failed: tuple[str, float] | None, now_s: float, retry_s: float) -> str | None:
    if failed is None or now_s - failed[1] >= retry_s:
        return None
    return failed[0]
