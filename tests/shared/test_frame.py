"""A frame survives the wire unchanged; what this version does not know is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow.cctv.v1 import frame_pb2
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding, Frame, TimeSource, from_wire, to_wire
from crow_shared.identity import checked_id


@given(
    camera_id=st.text(max_size=20),
    capture_us=st.integers(-(2**62), 2**62),
    source=st.sampled_from(TimeSource),
    payload=st.binary(max_size=200),
    seq=st.integers(0, 2**63),
    encoding=st.sampled_from(Encoding),
    skew_us=st.none() | st.integers(-(2**62), 2**62),
    hidden=st.tuples(st.booleans(), st.booleans()),
)
def test_a_frame_survives_the_wire(
    camera_id: str,
    capture_us: int,
    source: TimeSource,
    payload: bytes,
    seq: int,
    encoding: Encoding,
    skew_us: int | None,
    hidden: tuple[bool, bool],
) -> None:
    made = Frame.of_picture(camera_id, capture_us, source, 64, 48, payload, encoding)
    frame = replace(made, seq=seq, clock_skew_us=skew_us, masked=hidden[0], blurred=hidden[1])
    sent = to_wire(frame).SerializeToString()
    assert from_wire(frame_pb2.Frame.FromString(sent)) == frame
    assert frame.intact()


def test_a_changed_payload_is_noticed() -> None:
    frame = Frame.of_picture("c", 0, TimeSource.ARRIVAL, 1, 1, b"abc")
    assert not replace(frame, payload=b"abd").intact()


@pytest.mark.parametrize("field", ["encoding", "time_source"])
def test_an_unknown_encoding_or_time_source_is_refused(field: str) -> None:
    message = to_wire(Frame.of_picture("c", 0, TimeSource.ARRIVAL, 1, 1, b"abc"))
    setattr(message, field, 99)
    with pytest.raises(CrowError) as caught:
        from_wire(message)
    assert caught.value.kind is Kind.UNSUPPORTED


@pytest.mark.parametrize("value", ["a", "till-1", "cam_01", "0", "a" * 63])
def test_plain_names_are_ids(value: str) -> None:
    assert checked_id(value, "id") == value


@pytest.mark.parametrize(
    "value", ["", "-a", "a-", "A", "a b", "a/b", 'a"', "a'; drop table camera", "ä", "a" * 64, "..", "a\n"]
)
def test_anything_else_is_no_id(value: str) -> None:
    with pytest.raises(CrowError, match="is no valid id"):
        checked_id(value, "camera id")
