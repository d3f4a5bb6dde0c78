"""Which reader and mode are chosen, and what is said about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crow_daemon.capture.choice import RETRY_DIRECT_S, RETRY_SUBSTREAM_S, Choice, StreamMemory, choose
from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
    Transport,
)
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError

SECOND_US = 1_000_000
TRIANGLE = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))
ADDRESS = RtspAddress(CameraUrl.parse("rtsp://camera/main"))
WITH_SUBSTREAM = replace(ADDRESS, sub_url=CameraUrl.parse("rtsp://camera/sub"))


def chosen(source: RtspAddress = ADDRESS, memory: StreamMemory | None = None, **fields: Any) -> Choice:
    camera = Camera("till", "Till", source, **fields)
    return choose(camera, source, memory or StreamMemory(camera))


def after_keyframes(every_s: float, **fields: Any) -> Choice:
    camera = Camera("till", "Till", ADDRESS, **fields)
    memory = StreamMemory(camera)
    for number in range(10):
        memory.rhythm.keyframe(round(number * every_s * SECOND_US))
    return choose(camera, ADDRESS, memory)


def test_keyframes_as_they_are_by_the_direct_reader_are_the_first_choice() -> None:
    choice = chosen()
    assert (choice.reader, choice.mode, choice.substream) == ("direct", "keyframe", False)
    assert choice.why == "the camera's keyframes are sent as they are; read without libav"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"masks": (TRIANGLE,)}, "for the masks"),
        ({"blur": Blur.PEOPLE}, "for the blurring of people"),
        ({"gate": GateMode.ACTIVITY}, "for the gate, which has no substream to look at"),
        ({"mode": CaptureMode.DECODE}, "set to decode"),
    ],
)
def test_what_needs_pixels_is_decoded_out_of_what_the_direct_reader_brings(fields: dict[str, Any], reason: str) -> None:
    choice = chosen(**fields)
    assert (choice.reader, choice.mode) == ("direct", "decode")
    assert reason in choice.why


def test_a_gate_with_a_substream_leaves_the_main_streams_keyframes_as_they_are() -> None:
    choice = chosen(WITH_SUBSTREAM, gate=GateMode.ACTIVITY)
    assert (choice.mode, choice.substream) == ("keyframe", True)
    assert not chosen(WITH_SUBSTREAM).substream, "nobody looks at it"


def test_keyframes_rarer_than_samples_mean_that_libav_decodes_the_stream() -> None:
    choice = after_keyframes(4)
    assert (choice.reader, choice.mode) == ("pyav", "decode")
    assert "keyframes come 4.0 s apart, samples are due every 1 s" in choice.why
    assert after_keyframes(1).mode == "keyframe"


def test_the_mode_that_was_set_is_kept_and_what_it_costs_is_said() -> None:
    choice = after_keyframes(4, mode=CaptureMode.KEYFRAME)
    assert (choice.reader, choice.mode) == ("direct", "keyframe")
    assert "samples are lost: keyframes come 4.0 s apart" in choice.why


def test_the_reader_that_was_set_is_kept_and_what_it_costs_is_said() -> None:
    choice = after_keyframes(4, reader=ReaderChoice.DIRECT)
    assert (choice.reader, choice.mode) == ("direct", "keyframe")
    assert "samples are lost: keyframes come 4.0 s apart" in choice.why


def test_what_the_direct_reader_cannot_take_is_read_with_libav_until_a_connection_made_a_day_later() -> None:
    memory = StreamMemory(Camera("till", "Till", ADDRESS))
    memory.direct_failed("the stream has no keyframes", 100)
    memory.connecting(99 + RETRY_DIRECT_S)
    assert chosen(memory=memory).reader == "pyav"
    assert "the stream has no keyframes" in chosen(memory=memory).why
    memory.connecting(100 + RETRY_DIRECT_S)
    assert chosen(memory=memory).reader == "direct"


@pytest.mark.parametrize(
    "source", [replace(ADDRESS, transport=Transport.UDP), RtspAddress(CameraUrl.parse("rtsps://camera/main"))]
)
def test_udp_and_tls_are_libavs(source: RtspAddress) -> None:
    assert chosen(source).reader == "pyav"


def test_what_moves_is_looked_for_in_the_picture_that_it_is_blurred_in() -> None:
    choice = chosen(WITH_SUBSTREAM, gate=GateMode.ACTIVITY, blur=Blur.PEOPLE)
    assert (choice.mode, choice.substream) == ("decode", False)


def test_the_gate_looks_at_the_main_stream_while_the_substream_fails() -> None:
    memory = StreamMemory(Camera("till", "Till", WITH_SUBSTREAM, gate=GateMode.ACTIVITY))
    before = chosen(WITH_SUBSTREAM, memory, gate=GateMode.ACTIVITY)
    memory.substream_failed("nobody answers", 0)
    choice = chosen(WITH_SUBSTREAM, memory, gate=GateMode.ACTIVITY)
    assert choice.alike(before), "the main stream's connection goes on"
    assert (choice.mode, choice.substream) == ("keyframe", True)
    assert "the substream fails: nobody answers" in choice.why
    assert memory.substream_rests_s(1) == RETRY_SUBSTREAM_S - 1
    memory.substream_reads()
    assert (chosen(WITH_SUBSTREAM, memory, gate=GateMode.ACTIVITY), memory.substream_rests_s(1)) == (before, 0)


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        (ADDRESS, {"mode": CaptureMode.KEYFRAME, "masks": (TRIANGLE,)}),
        (ADDRESS, {"mode": CaptureMode.KEYFRAME, "blur": Blur.PEOPLE}),
        (ADDRESS, {"mode": CaptureMode.KEYFRAME, "gate": GateMode.ACTIVITY}),
        (replace(ADDRESS, transport=Transport.UDP), {"reader": ReaderChoice.DIRECT}),
        (RtspAddress(CameraUrl.parse("rtsps://camera/main")), {"reader": ReaderChoice.DIRECT}),
        (Recording(Path("/monday.mp4"), 0), {"reader": ReaderChoice.DIRECT}),
    ],
)
def test_what_cannot_be_is_refused_when_the_camera_is_stored(source: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(CrowError) as refused:
        Camera("till", "Till", source, **fields)
    assert refused.value.code in ("bad_mode", "bad_reader")
