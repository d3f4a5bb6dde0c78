"""How frames and gaps are put into messages."""

from dataclasses import replace

from crow.cctv.v1 import ingest_pb2 as pb
from crow_daemon.spool.accounts import HoleReason
from crow_daemon.uplink.messages import MESSAGE_BYTES, Messages
from crow_shared.frame import MAX_MESSAGE_BYTES, MAX_PICTURE_BYTES, Frame, TimeSource, from_wire


def frame(seq: int, size_bytes: int = 100) -> Frame:
    made = Frame.of_picture("till", 1_800_000_000_000_000 + seq, TimeSource.CAMERA, 640, 360, bytes(size_bytes))
    return replace(made, seq=seq)


def numbers(messages: Messages) -> list[list[int]]:
    return [[sent.seq for sent in message.frames.frames] for message in messages.take()]


def test_neighbouring_frames_go_up_together_as_they_were() -> None:
    messages = Messages()
    for seq in (1, 2, 3):
        messages.add_frame(frame(seq))
    (made,) = messages.take()
    assert [from_wire(sent) for sent in made.frames.frames] == [frame(1), frame(2), frame(3)]
    assert not messages.take()


def test_a_message_holds_no_more_than_is_lost_gladly_with_its_connection() -> None:
    messages = Messages()
    third = MESSAGE_BYTES // 3
    for seq, size_bytes in enumerate([third, third, third, third, MAX_PICTURE_BYTES, 10], start=1):
        messages.add_frame(frame(seq, size_bytes))
    assert numbers(messages) == [[1, 2, 3], [4], [5], [6]]


def test_the_largest_picture_fits_into_a_message() -> None:
    messages = Messages()
    largest = frame(1, MAX_PICTURE_BYTES)
    messages.add_frame(replace(largest, seq=2**63 - 1, camera_id="c" * 64, clock_skew_us=-(2**62)))
    (made,) = messages.take()
    assert made.ByteSize() <= MAX_MESSAGE_BYTES


def test_a_gap_keeps_its_place_between_frames() -> None:
    messages = Messages()
    messages.add_frame(frame(1))
    messages.add_gap("till", 2, 4, HoleReason.SPOOL_FULL)
    messages.add_frame(frame(5))
    first, gap, last = messages.take()
    assert (first.frames.frames[0].seq, last.frames.frames[0].seq) == (1, 5)
    assert gap.gap == pb.Gap(camera_id="till", from_seq=2, to_seq=4, reason=pb.GAP_REASON_SPOOL_FULL)
