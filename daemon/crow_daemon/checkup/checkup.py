"""Looks at a camera step by step, as the capture would, and goes on as far as it can.

Every step that cannot be tried since an earlier one failed is told as such. Connections are made one after the other:
some cameras serve one viewer only.
"""

import socket
import time
from dataclasses import replace

from crow_daemon.capture.choice import MODE_CHANGED, StreamMemory
from crow_daemon.capture.chosen_source import source_of
from crow_daemon.capture.source import StreamInfo
from crow_daemon.checkup.look import Seen, frame_bytes, look
from crow_daemon.checkup.report import LIVE_TOPICS, RECORDING_TOPICS, Checkup, Topic
from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
)
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_daemon.rtsp.describe import describe
from crow_daemon.stills.still import hidden
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 4.0
DESCRIBE_TIMEOUT_S = 5.0
LARGE_SKEW_S = 2.0
_EVERY_PICTURE_MS = 33
_ATTEMPTS = 3  # a reader that finds that another one has to read is followed so often
_TOPIC_OF = {
    "host_unknown": Topic.NAME,
    "unreachable": Topic.PORT,
    "auth_failed": Topic.LOGIN,
    "auth_unsupported": Topic.LOGIN,
    "codec_unsupported": Topic.STREAM,
    "no_video": Topic.STREAM,
}


def check_camera(camera: Camera, credentials: Credentials | None, clock: Clock) -> Checkup:
    """Looks at all of a camera; takes some ten seconds."""
    if isinstance(camera.source, Recording):
        return _check_recording(camera, clock)
    checkup = Checkup(LIVE_TOPICS)
    address = camera.source
    if _reaches(checkup, address.url) and _describes(checkup, address, credentials):
        seen = _look_at(checkup, camera, credentials, clock)
        if seen is not None:
            _tell_clock(checkup, seen)
            _look_at_substream(checkup, camera, credentials, clock)
            _read_as_set(checkup, camera, credentials, clock, seen)
    return checkup


def _check_recording(camera: Camera, clock: Clock) -> Checkup:
    checkup = Checkup(RECORDING_TOPICS)
    seen = _look_at(checkup, camera, None, clock, failing=Topic.FILE)
    if seen is not None:
        checkup.say(Topic.FILE, "can be read")
        _read_as_set(checkup, camera, None, clock, seen)
    return checkup


def _reaches(checkup: Checkup, url: CameraUrl) -> bool:
    try:
        found = socket.getaddrinfo(url.host, url.effective_port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        message = f"the name {url.host!r} cannot be looked up"
        checkup.fail(Topic.NAME, CrowError(Kind.UNAVAILABLE, "host_unknown", message))
        return False
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    checkup.say(Topic.NAME, "an address" if addresses == [url.host] else f"{url.host} is {', '.join(addresses)}")
    began_s = time.monotonic()
    try:
        socket.create_connection((url.host, url.effective_port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        why = "does not answer" if isinstance(error, TimeoutError) else (error.strerror or "cannot be reached").lower()
        failure = CrowError(Kind.UNAVAILABLE, "unreachable", f"port {url.effective_port} of {url.host}: {why}")
        checkup.fail(Topic.PORT, failure)
        return False
    took_ms = (time.monotonic() - began_s) * 1000
    checkup.say(Topic.PORT, f"{url.effective_port} answers in {took_ms:.0f} ms")
    return True


def _describes(checkup: Checkup, address: RtspAddress, credentials: Credentials | None) -> bool:
    """Asks without a login first: who is let in that way is everybody."""
    try:
        described = describe(address.url, None, DESCRIBE_TIMEOUT_S)
    except CrowError as error:
        if error.code != "auth_failed":
            return _failed(checkup, error)
        checkup.say(Topic.RTSP, "answers")
        if credentials is None:
            return _failed(checkup, error)
        try:
            described = describe(address.url, credentials, DESCRIBE_TIMEOUT_S)
        except CrowError as refused:
            return _failed(checkup, refused)
        checkup.say(Topic.LOGIN, f"{credentials.username!r} is let in")
    else:
        checkup.say(Topic.RTSP, "answers")
        checkup.warn(
            Topic.LOGIN, "the camera lets in everybody", "set a password in the camera, unless its network is closed"
        )
    checkup.facts["codec"] = described.codec.lower()
    return True


def _failed(checkup: Checkup, error: CrowError) -> bool:
    topic = _TOPIC_OF.get(error.code, Topic.RTSP)
    if topic in (Topic.LOGIN, Topic.STREAM):
        checkup.say(Topic.RTSP, "answers")
    checkup.fail(topic, error)
    return False


def _look_at(
    checkup: Checkup,
    camera: Camera,
    credentials: Credentials | None,
    clock: Clock,
    failing: Topic = Topic.STREAM,
) -> Seen | None:
    """Decodes every picture for a while: only so can pictures a second be counted."""
    whole = replace(
        camera,
        sample_interval_ms=_EVERY_PICTURE_MS,
        mode=CaptureMode.DECODE,
        reader=ReaderChoice.PYAV,
        gate=GateMode.OFF,
    )
    memory = StreamMemory(whole)
    try:
        seen = look(source_of(whole, credentials, clock, memory), memory.rhythm, clock, TIMEOUT_S)
        checkup.snapshot = hidden(seen.last, camera)
    except CrowError as error:
        checkup.fail(failing, error)
        return None
    checkup.facts |= {
        "codec": seen.stream.codec,
        "width": seen.last.width,
        "height": seen.last.height,
        "fps": seen.fps,
        "keyframe_interval_ms": seen.keyframe_interval_ms,
        "first_picture_ms": seen.first_picture_ms,
        "damaged": seen.damaged,
        "time_source": str(seen.time_source),
        "clock_skew_ms": None if seen.clock_skew_us is None else round(seen.clock_skew_us / 1000),
    }
    size = f"{seen.stream.codec} {seen.last.width}x{seen.last.height}"
    checkup.say(Topic.STREAM, f"{size}, the first picture after {seen.first_picture_ms} ms")
    _tell_keyframes(checkup, camera, seen)
    _tell_pictures(checkup, camera, seen)
    return seen


def _tell_keyframes(checkup: Checkup, camera: Camera, seen: Seen) -> None:
    wanted_s = camera.sample_interval_ms / 1000
    if seen.keyframe_interval_ms is None:
        says = "fewer than two came in the time that was looked"
    else:
        says = f"every {seen.keyframe_interval_ms / 1000:g} s; samples are due every {wanted_s:g} s"
    if seen.keyframe_interval_ms is not None and seen.keyframe_interval_ms <= camera.sample_interval_ms * 1.1:
        checkup.say(Topic.KEYFRAMES, says)
    else:
        remedy = (
            f"a keyframe (I-frame) interval of {wanted_s:g} s in the camera's settings makes reading it far cheaper"
        )
        checkup.warn(Topic.KEYFRAMES, says, remedy)


def _tell_pictures(checkup: Checkup, camera: Camera, seen: Seen) -> None:
    fps = "unknown" if seen.fps is None else f"{seen.fps:g} a second"
    if seen.damaged:
        says = f"{fps}, {seen.damaged} of them damaged"
        checkup.warn(Topic.PICTURES, says, "try another cable or --transport tcp, or lower the stream's bit rate")
    elif seen.fps is not None and seen.fps < 0.95 * 1000 / camera.sample_interval_ms:
        checkup.warn(Topic.PICTURES, f"{fps}: fewer than samples are due", "sample less often (--fps)")
    else:
        checkup.say(Topic.PICTURES, f"{fps}, none damaged")


def _tell_clock(checkup: Checkup, seen: Seen) -> None:
    if seen.clock_skew_us is None:
        checkup.warn(
            Topic.CLOCK,
            "the camera does not tell its time (no RTCP sender reports yet); the time of arrival is used",
            "nothing to do, unless times have to agree to a tenth of a second",
        )
        return
    skew_s = seen.clock_skew_us / 1_000_000
    says = f"{abs(skew_s):.3g} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if seen.time_source is TimeSource.CAMERA:
        checkup.say(Topic.CLOCK, f"the camera's is used, {says}")
    else:
        remedy = "set the same time server (NTP) in the camera as on this machine"
        checkup.warn(Topic.CLOCK, f"the camera's is {says}, so the time of arrival is used", remedy)


def _look_at_substream(checkup: Checkup, camera: Camera, credentials: Credentials | None, clock: Clock) -> None:
    assert isinstance(camera.source, RtspAddress)
    if camera.source.sub_url is None:
        if camera.gate is GateMode.OFF:
            checkup.say(Topic.SUBSTREAM, "none set, and no gate that would look at it")
        else:
            remedy = "give the camera's smaller stream with --sub-url: the gate then looks at that, for far less"
            checkup.warn(Topic.SUBSTREAM, "none set; the gate decodes the main stream", remedy)
        return
    small = replace(
        camera,
        source=replace(camera.source, url=camera.source.sub_url, sub_url=None),
        mode=CaptureMode.DECODE,
        gate=GateMode.OFF,
        masks=(),
        blur=Blur.OFF,
    )
    try:
        stream, _ = _read(small, credentials, clock, StreamMemory(small))
    except CrowError as error:
        checkup.fail(Topic.SUBSTREAM, error)
    else:
        checkup.say(Topic.SUBSTREAM, f"{stream.codec} {stream.width}x{stream.height}")


def _read_as_set(checkup: Checkup, camera: Camera, credentials: Credentials | None, clock: Clock, seen: Seen) -> None:
    """Connects as the capture does once it knows how far apart keyframes are."""
    memory = StreamMemory(camera)
    if seen.keyframe_interval_ms is not None and not isinstance(camera.source, Recording):
        for number in range(10):
            memory.rhythm.keyframe(number * seen.keyframe_interval_ms * 1000)
    try:
        stream, size_bytes = _read(camera, credentials, clock, memory)
    except CrowError as error:
        checkup.fail(Topic.READING, error)
        return
    hour_bytes = round(size_bytes * 3_600_000 / camera.sample_interval_ms)
    checkup.facts |= {"reader": stream.reader, "mode": stream.mode, "why": stream.why}
    checkup.facts |= {"frame_bytes": size_bytes, "hour_bytes": hour_bytes}
    checkup.say(Topic.READING, f"by {stream.reader}, in mode {stream.mode}: {stream.why}")
    gated = "" if camera.gate is GateMode.OFF else " at most; the gate leaves out what it holds back"
    checkup.say(Topic.FRAMES, f"{size_bytes / 1000:.0f} kB each, {hour_bytes / 1e6:.0f} MB an hour{gated}")


def _read(
    camera: Camera, credentials: Credentials | None, clock: Clock, memory: StreamMemory
) -> tuple[StreamInfo, int]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return frame_bytes(source_of(camera, credentials, clock, memory), camera, TIMEOUT_S)
        except CrowError as error:
            if error.code != MODE_CHANGED or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")
