"""Which reader reads a camera, and what its frames are made of. Pure: no I/O, time is passed in.

What costs least and does what the camera's settings ask is chosen: its own keyframes, unseen, by the reader that keeps
nothing else. What a connection shows (keyframes too far apart, a stream that the direct reader cannot take) is kept in
`StreamMemory` for the next ones, which are then made otherwise, with the reason in `why`.

Invariants
1. `choose` is a function of the camera and the memory alone.
2. Keyframes are sent as they are only where no pixel has to be touched or looked at in them.
3. A connection that runs is never ended only to try again what was given up. The direct reader is tried again by the
   first connection that is made `RETRY_DIRECT_S` after it failed: that costs a moment mostly, and half a minute's
   samples where its keyframes never come. The substream, a connection of its own, is read again beside the running one.
"""

from dataclasses import dataclass
from typing import Literal

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.rhythm import KeyframeRhythm
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
RETRY_DIRECT_S = 24 * 3600.0
RETRY_SUBSTREAM_S = 600.0


@dataclass(frozen=True, slots=True)
class Choice:
    """How to connect to a live camera. `substream` says that a second connection is to serve the gate."""

    reader: Literal["direct", "pyav"]
    mode: Literal["keyframe", "decode"]
    substream: bool
    why: str

    def alike(self, other: "Choice") -> bool:
        """Whether a connection made by the one will do for the other: reasons and substream may change meanwhile."""
        return (self.reader, self.mode) == (other.reader, other.mode)


class StreamMemory:
    """What connections to one camera have shown. Used by the camera's thread; its substream's tells what it meets."""

    def __init__(self, camera: Camera) -> None:
        """Of a camera that nothing is known of."""
        self.rhythm = KeyframeRhythm(camera.sample_interval_us)
        self.capture_clock = CaptureClock()
        self._direct_failed: tuple[str, float] | None = None
        self._substream_failed: tuple[str, float] | None = None

    def direct_failed(self, why: str, now_s: float) -> None:
        """The direct reader cannot take the stream, for a reason that ends a sentence."""
        self._direct_failed = why, now_s

    def connecting(self, now_s: float) -> None:
        """A connection is about to be made: what was given up long ago may be tried with it."""
        if self._direct_failed is not None and now_s - self._direct_failed[1] >= RETRY_DIRECT_S:
            self._direct_failed = None

    @property
    def why_not_direct(self) -> str | None:
        """None while the direct reader may be tried."""
        return self._direct_failed and self._direct_failed[0]

    def substream_failed(self, why: str, now_s: float) -> None:
        """The substream cannot be read, for a reason that ends a sentence."""
        self._substream_failed = why, now_s

    def substream_reads(self) -> None:
        """The substream brings pictures."""
        self._substream_failed = None

    @property
    def why_no_substream(self) -> str | None:
        """None while the substream has not failed, or brings pictures again."""
        failed = self._substream_failed
        return failed and failed[0]

    def substream_rests_s(self, now_s: float) -> float:
        """The seconds until the substream may be tried again."""
        failed = self._substream_failed
        return max(0.0, failed[1] + RETRY_SUBSTREAM_S - now_s) if failed else 0.0


def choose(camera: Camera, address: RtspAddress, memory: StreamMemory) -> Choice:
    """How to connect."""
    decoded_because = why_decoded(camera, memory.rhythm)
    mode: Literal["keyframe", "decode"] = "keyframe" if decoded_because is None else "decode"
    pyav_because = _why_pyav(camera, address, memory)
    # What moves in another stream's picture, a moment earlier or later, is not where it is in the one to blur.
    looks = camera.gate is not GateMode.OFF and address.sub_url is not None and camera.blur is Blur.OFF
    keyframes_alone = mode == "keyframe" or pyav_because is None
    substream = looks and (keyframes_alone or memory.rhythm.enough is not False)
    reasons = [
        decoded_because or "the camera's keyframes are sent as they are",
        f"read with libav: {pyav_because}" if pyav_because else "read without libav",
    ]
    if substream and memory.why_no_substream:
        reasons.append(f"the gate looks at the main stream, since the substream fails: {memory.why_no_substream}")
    if keyframes_alone and memory.rhythm.enough is False:
        reasons.append(f"samples are lost: {_shortcoming(camera, memory.rhythm)}")
    return Choice(
        reader="pyav" if pyav_because else "direct",
        mode=mode,
        substream=substream,
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


def _why_pyav(camera: Camera, address: RtspAddress, memory: StreamMemory) -> str | None:
    if camera.reader is ReaderChoice.PYAV:
        return "set to pyav"
    if camera.reader is ReaderChoice.DIRECT:
        return None
    if address.transport is Transport.UDP:
        return "the direct reader speaks TCP only"
    if address.url.scheme != "rtsp":
        return "the direct reader speaks no TLS"
    if memory.why_not_direct is not None:
        return memory.why_not_direct
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
