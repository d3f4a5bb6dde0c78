"""Keyframes are told from everything else, with the size that libav decodes, and hostile bytes do no harm."""

import random
import time
from contextlib import suppress
from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext
from coded_keyframes import coded_stream, decoded_by_libav, keyframe
from h26x_writing import PPS_264, H264Sps, idr_slice_264, pps_264, written
from hypothesis import given
from hypothesis import strategies as st

from crow_shared import h26x
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding
from crow_sim.encode import Codec
from crow_sim.shop.clip import small_clip

H264, H265 = Encoding.H264, Encoding.H265
SIZES = [(32, 32), (64, 48), (146, 84), (320, 180), (352, 288), (638, 362), (704, 576), (1280, 720), (1920, 1080)]


def refusal(encoding: Encoding, access_unit: bytes) -> tuple[Kind, str]:
    with pytest.raises(CrowError) as raised:
        h26x.inspect_keyframe(encoding, access_unit)
    return raised.value.kind, raised.value.code


NOT_A_KEYFRAME = (Kind.INVALID, "not_a_keyframe")
UNSUPPORTED = (Kind.UNSUPPORTED, "picture_unsupported")


@pytest.mark.parametrize("encoding", [H264, H265])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_size_is_the_one_that_libav_decodes(encoding: Encoding, width: int, height: int) -> None:
    coded = keyframe(encoding, width, height)
    (picture,) = decoded_by_libav(encoding, coded)
    assert h26x.inspect_keyframe(encoding, coded) == (picture.width, picture.height) == (width, height)


@pytest.mark.parametrize(
    ("profile", "params"),
    [
        ("baseline", ""),
        ("main", ""),
        ("high", ""),
        ("high", "cqm=jvt"),
        ("high", "interlaced=1"),
        ("main", "slices=4"),
        ("high", "slice-max-size=200"),
        ("high", "aud=1:nal-hrd=cbr:bitrate=500:vbv-maxrate=500:vbv-bufsize=500:filler=1"),
        ("high", "bluray-compat=1:force-cfr=1:sar=4/3:videoformat=pal:fullrange=on"),
    ],
)
def test_h264_of_cameras_is_read_in_all_its_kinds(profile: str, params: str) -> None:
    coded = keyframe(H264, 702, 572, params, profile=profile)
    assert h26x.inspect_keyframe(H264, coded) == (702, 572)


@pytest.mark.parametrize(
    "params",
    [
        "slices=2",
        "ctu=16:min-cu-size=8",
        "aud=1:hrd=1:bitrate=500:vbv-maxrate=500:vbv-bufsize=500",
        "temporal-layers=2",
        "idr-recovery-sei=1:hash=1",
        "scaling-list=default",
        "level-idc=5.1:high-tier=1",
        "wpp=1",
        "sar=4:range=full",
    ],
)
def test_h265_of_cameras_is_read_in_all_its_kinds(params: str) -> None:
    coded = keyframe(H265, 704, 568, params)
    assert h26x.inspect_keyframe(H265, coded) == (704, 568)


@pytest.mark.parametrize(("encoding", "codec"), [(H264, "h264"), (H265, "hevc")])
def test_the_keyframes_of_the_simulated_camera_are_found_and_nothing_else(
    encoding: Encoding, codec: Codec, tmp_path: Path
) -> None:
    with av.open(str(small_clip(tmp_path, codec))) as clip:
        to_annex_b = BitStreamFilterContext(f"{codec}_mp4toannexb", clip.streams.video[0])
        units = [(part.is_keyframe, bytes(part)) for packet in clip.demux() for part in to_annex_b.filter(packet)]
    assert len(units) == 60
    for is_keyframe, unit in units:
        if is_keyframe:
            assert h26x.inspect_keyframe(encoding, unit) == (320, 240)
        else:
            assert refusal(encoding, unit) == NOT_A_KEYFRAME


def test_an_open_gop_begins_with_a_picture_that_decodes_alone() -> None:
    stream = coded_stream(H265, 320, 180, "open-gop=1:repeat-headers=1", pictures=40, b_frames=3, keyframe_every=10)
    cra = [unit for key, unit in stream[1:] if key and 21 in [h26x.nal_type(H265, nal) for nal in h26x.nal_units(unit)]]
    assert len(cra) >= 2
    for unit in cra:
        assert h26x.inspect_keyframe(H265, unit) == (320, 180)
        assert len(decoded_by_libav(H265, unit)) == 1


@pytest.mark.parametrize("encoding", [H264, H265])
def test_pictures_that_need_others_are_no_keyframes(encoding: Encoding) -> None:
    stream = coded_stream(encoding, 320, 180, pictures=8, b_frames=2)
    key, rest = stream[0][1], [unit for _, unit in stream[1:]]
    parameters = [nal for nal in h26x.nal_units(key) if h26x.nal_type(encoding, nal) in h26x.PARAMETER_SETS[encoding]]
    for unit in rest:
        assert refusal(encoding, unit) == NOT_A_KEYFRAME
        assert refusal(encoding, h26x.with_parameter_sets(encoding, unit, parameters)) == NOT_A_KEYFRAME
    assert refusal(encoding, key + rest[0]) == NOT_A_KEYFRAME


def test_a_stream_that_refreshes_row_by_row_has_no_keyframes_but_its_first() -> None:
    stream = coded_stream(H264, 320, 180, "intra-refresh=1:keyint=10", pictures=40, keyframe_every=10)
    assert h26x.inspect_keyframe(H264, stream[0][1]) == (320, 180)
    assert all(refusal(H264, unit) == NOT_A_KEYFRAME for _, unit in stream[1:])


@pytest.mark.parametrize(
    ("encoding", "pix_fmt", "profile"),
    [
        (H264, "yuv422p", None),
        (H264, "yuv444p", None),
        (H264, "gray", None),
        (H264, "yuv420p10le", None),
        (H265, "yuv422p", "main422-10"),
        (H265, "yuv444p", "main444-8"),
        (H265, "yuv420p10le", "main10"),
    ],
)
def test_other_samples_than_8_bits_in_420_are_refused(encoding: Encoding, pix_fmt: str, profile: str | None) -> None:
    assert refusal(encoding, keyframe(encoding, pix_fmt=pix_fmt, profile=profile)) == UNSUPPORTED


@pytest.mark.parametrize("encoding", [H264, H265])
def test_parameter_sets_are_asked_for_and_put_in_front(encoding: Encoding) -> None:
    coded = keyframe(encoding)
    units = h26x.nal_units(coded)
    parameters = [nal for nal in units if h26x.nal_type(encoding, nal) in h26x.PARAMETER_SETS[encoding]]
    slices = [nal for nal in units if h26x.nal_type(encoding, nal) in h26x.KEYFRAME_SLICES[encoding]]
    bare = h26x.annex_b(slices)
    assert refusal(encoding, bare) == NOT_A_KEYFRAME
    assert h26x.inspect_keyframe(encoding, h26x.with_parameter_sets(encoding, bare, parameters)) == (320, 180)
    assert h26x.with_parameter_sets(encoding, coded, parameters) is coded
    for left_out in range(len(parameters)):
        some = parameters[:left_out] + parameters[left_out + 1 :]
        assert refusal(encoding, h26x.annex_b(some + slices)) == NOT_A_KEYFRAME
        mended = h26x.with_parameter_sets(encoding, h26x.annex_b(some + slices), parameters)
        assert h26x.inspect_keyframe(encoding, mended) == (320, 180)
    assert refusal(encoding, h26x.annex_b(slices + parameters)) == NOT_A_KEYFRAME
    assert refusal(encoding, h26x.annex_b(parameters)) == NOT_A_KEYFRAME


@pytest.mark.parametrize("encoding", [H264, H265])
def test_one_whole_picture_is_asked_for(encoding: Encoding) -> None:
    coded = keyframe(encoding, 704, 576, "slices=4")
    units = h26x.nal_units(coded)
    first = next(i for i, nal in enumerate(units) if h26x.nal_type(encoding, nal) in h26x.KEYFRAME_SLICES[encoding])
    assert len(units) == first + 4
    assert refusal(encoding, coded + coded) == NOT_A_KEYFRAME  # the parameter sets again
    assert refusal(encoding, coded + h26x.annex_b(units[first:])) == NOT_A_KEYFRAME  # a second picture
    assert refusal(encoding, h26x.annex_b(units[:first] + units[first + 1 :])) == NOT_A_KEYFRAME  # its middle
    assert refusal(encoding, h26x.annex_b([*units[:first], units[first + 1], units[first]])) == NOT_A_KEYFRAME


@pytest.mark.parametrize("encoding", [H264, H265])
@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"\0\0\0\1", b"\0\0\1\0\0\1", b"hello", b"\xff\xd8\xff\xe0", b"\0" * 99]
)
def test_what_is_no_byte_stream_is_no_keyframe(encoding: Encoding, garbage: bytes) -> None:
    assert refusal(encoding, garbage) == NOT_A_KEYFRAME
    if garbage.strip(b"\0"):
        assert refusal(encoding, garbage + keyframe(encoding)) == NOT_A_KEYFRAME


@pytest.mark.parametrize("encoding", [H264, H265])
def test_the_number_of_nal_units_is_bounded(encoding: Encoding) -> None:
    filler = b"\0\0\1\x0c\xff\x80" if encoding is H264 else b"\0\0\1\x4c\x01\xff\x80"
    coded = keyframe(encoding)
    room = h26x.MAX_NAL_UNITS - len(h26x.nal_units(coded))
    assert h26x.inspect_keyframe(encoding, coded + filler * room) == (320, 180)
    assert refusal(encoding, coded + filler * (room + 1)) == (Kind.TOO_LARGE, "picture_too_large")


@pytest.mark.parametrize("encoding", [H264, H265])
@pytest.mark.parametrize(
    "unit", [b"\0\0\1", b"\0\0\1\x65\x88", b"\0" * 3, b"\0\0\3", b"\0\0\1\x26\x01\x80", b"\0\0\1\x67"]
)
def test_two_mebibytes_of_anything_are_refused_at_once(encoding: Encoding, unit: bytes) -> None:
    hostile = (unit * (1 + (2 << 20) // len(unit)))[: 2 << 20]
    started_s = time.process_time()
    refusal(encoding, keyframe(encoding, 64, 48)[:40] + hostile)
    assert time.process_time() - started_s < 0.2


@given(
    sps=st.builds(
        H264Sps,
        profile=st.sampled_from([66, 77, 88, 100, 110, 122, 244, 44, 118, 128]),
        number=st.integers(0, 31),
        scaling_lists=st.none() | st.lists(st.none() | st.integers(-128, 127), min_size=8, max_size=8),
        frame_num_bits=st.integers(4, 16),
        order_type=st.integers(0, 2),
        order_cycle=st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=5),
        width_in_blocks=st.integers(1, 1024),
        height_in_map_units=st.integers(1, 1024),
        frames_only=st.booleans(),
        crop=st.none() | st.tuples(*[st.integers(0, 3)] * 4),
    )
)
def test_what_is_written_in_an_h264_parameter_set_is_read_from_it(sps: H264Sps) -> None:
    read = h26x.sequence_parameters(H264, written(sps))
    assert (read.number, read.width, read.height) == (sps.number, sps.width, sps.height)
    assert (read.frame_num_bits, read.fields_allowed) == (sps.frame_num_bits, not sps.frames_only)


def test_separate_fields_are_refused() -> None:
    sps = H264Sps(frames_only=False)
    whole = h26x.annex_b([written(sps), PPS_264, idr_slice_264(sps, field=False)])
    assert h26x.inspect_keyframe(H264, whole) == (sps.width, sps.height)
    half = h26x.annex_b([written(sps), PPS_264, idr_slice_264(sps, field=True)])
    assert refusal(H264, half) == UNSUPPORTED


def test_slices_of_two_sequences_are_no_picture() -> None:
    sets = [H264Sps(), H264Sps(number=1, width_in_blocks=21)]
    first, second = idr_slice_264(sets[0]), idr_slice_264(sets[1], begin=9, picture=1)
    parameters = [written(sets[0]), written(sets[1]), pps_264(0, 0), pps_264(1, 1)]
    assert h26x.inspect_keyframe(H264, h26x.annex_b([*parameters, first])) == (320, 192)
    assert refusal(H264, h26x.annex_b([*parameters, first, second])) == NOT_A_KEYFRAME


def test_a_later_parameter_set_takes_the_place_of_an_earlier_one_as_in_a_decoder() -> None:
    sets = [written(H264Sps(width_in_blocks=blocks)) for blocks in (1000, 20)]
    assert h26x.inspect_keyframe(H264, h26x.annex_b([*sets, PPS_264, idr_slice_264(H264Sps())])) == (320, 192)


@pytest.mark.parametrize("kind", [0, 1, 3, 5, 6, 8])
def test_an_idr_slice_that_predicts_from_other_pictures_is_refused(kind: int) -> None:
    slices = idr_slice_264(H264Sps(), kind=kind)
    assert refusal(H264, h26x.annex_b([written(H264Sps()), PPS_264, slices])) == NOT_A_KEYFRAME


def test_parameter_sets_are_bounded() -> None:
    rest = [PPS_264, idr_slice_264(H264Sps())]
    long_cycle = written(H264Sps(order_type=1, order_cycle=[0] * 256))
    assert h26x.sequence_parameters(H264, written(H264Sps(order_type=1, order_cycle=[0] * 255))).width == 320
    assert refusal(H264, h26x.annex_b([long_cycle, *rest])) == NOT_A_KEYFRAME
    too_long = written(H264Sps()) + b"\xff" * h26x.MAX_PARAMETER_SET_BYTES
    assert refusal(H264, h26x.annex_b([too_long, *rest])) == NOT_A_KEYFRAME


def test_wrong_headers_and_layers_are_refused() -> None:
    coded = keyframe(H265)
    for unit, expected in ((b"\x4e\x09\x80", UNSUPPORTED), (b"\x4f\x01\x80", UNSUPPORTED)):
        assert refusal(H265, coded + b"\0\0\1" + unit) == expected  # of another layer
    for unit in (b"\xce\x01\x80", b"\x4e\x08\x80", b"\x4e"):
        assert refusal(H265, coded + b"\0\0\1" + unit) == NOT_A_KEYFRAME
    assert refusal(H264, keyframe(H264) + b"\0\0\1\x8c\xff\x80") == NOT_A_KEYFRAME


def test_a_stated_size_costs_nothing() -> None:
    sps = H264Sps(width_in_blocks=2**31, height_in_map_units=2**31)
    coded = h26x.annex_b([written(sps), PPS_264, idr_slice_264(sps, field=False)])
    assert h26x.inspect_keyframe(H264, coded) == (sps.width, sps.height)


@given(
    data=st.binary(max_size=400),
    encoding=st.sampled_from([H264, H265]),
    header=st.sampled_from([7, 8, 5, 64, 66, 68, 38]),
)
def test_arbitrary_bytes_are_refused_or_read_and_nothing_else(data: bytes, encoding: Encoding, header: int) -> None:
    for access_unit in (data, b"\0\0\1" + bytes([header]) + data):
        with suppress(CrowError):
            h26x.inspect_keyframe(encoding, access_unit)
    with suppress(CrowError):
        h26x.sequence_parameters(encoding, bytes([header]) + data)


@pytest.mark.parametrize("encoding", [H264, H265])
def test_whenever_libav_decodes_what_was_accepted_it_has_the_size_that_was_told(encoding: Encoding) -> None:
    """A thousand keyframes with bits turned in their headers: the bomb that inspection must not miss."""
    chance = random.Random(7)
    coded = keyframe(encoding, 64, 48, "cqm=jvt" if encoding is H264 else "")
    slice_at = coded.rindex(b"\0\0\1")
    accepted = decoded = 0
    for _ in range(1000):
        mutant = bytearray(coded)
        for _ in range(chance.randint(1, 3)):
            mutant[chance.randrange(slice_at + 8)] ^= 1 << chance.randrange(8)
        try:
            size = h26x.inspect_keyframe(encoding, bytes(mutant))
        except CrowError:
            continue
        accepted += 1
        try:
            pictures = decoded_by_libav(encoding, bytes(mutant))
        except av.FFmpegError:
            continue
        for picture in pictures:
            decoded += 1
            assert (picture.width, picture.height) == size
            assert picture.format.name in {"yuv420p", "yuvj420p"}
    assert accepted > decoded > 20
