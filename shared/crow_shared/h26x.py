"""What can be told of an H.264 or H.265 keyframe without decoding it.

A keyframe travels as one access unit in Annex B form: NAL units, each behind a start code 00 00 01, the parameter sets
in front, then the slices of one picture that needs no other picture. Syntax and semantics are those of ITU-T H.264 and
H.265 (sections 7.3 and 7.4, annex B), read as far as the picture's size and the references from slice to picture
parameter set (PPS) to sequence parameter set (SPS). Slice data is never looked at, so a keyframe that passes may still
be damaged inside.

All bytes come from outside. Nothing is allocated by a size that they state, every loop is bounded by `MAX_NAL_UNITS`,
`MAX_PARAMETER_SET_BYTES` or a bound of the standards, and nothing but CrowError is raised for them.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from crow_shared.bits import Bits, BitsExhaustedError
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding

START_CODE = b"\0\0\0\1"  # its four-byte form, which is right in every place
MAX_NAL_UNITS = 1000  # a 4K picture in slices of one network packet each has some hundreds
MAX_PARAMETER_SET_BYTES = 2048  # real ones have 10 to 100, with every scaling list about 700

_SHORT_START_CODE = re.compile(rb"\x00\x00\x01")  # searched for in half the time that bytes.find takes
_SHORT_START_CODE_BYTES = 3
_SLICE_HEADER_BYTES = 32  # holds every field that is read here, emulation prevention included
_LOOKED_AT_BYTES = MAX_PARAMETER_SET_BYTES + 1  # of a NAL unit
_CACHED_PARAMETER_SETS = 1024  # a camera uses two or three, until it is set up anew

# Table 7-1 of each standard, and what its other sections call things.
_HEADER_BYTES = {Encoding.H264: 1, Encoding.H265: 2}
_H264_IDR, _H264_SPS, _H264_PPS = 5, 7, 8
_H264_INTRA_SLICES = (2, 4, 7, 9)  # slice_type of I and SI
_H264_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_H264_MOST_ORDER_CYCLE = 255  # num_ref_frames_in_pic_order_cnt_cycle
_H265_VPS, _H265_SPS, _H265_PPS = 32, 33, 34
_H265_PROFILE_BITS, _H265_LEVEL_BITS = 88, 8
_CHROMA_420, _CHROMA_444 = 1, 3

PARAMETER_SETS = {
    Encoding.H264: frozenset({_H264_SPS, _H264_PPS}),
    Encoding.H265: frozenset({_H265_VPS, _H265_SPS, _H265_PPS}),
}
# IDR; and BLA_W_LP to CRA: all pictures from which decoding may begin.
KEYFRAME_SLICES = {Encoding.H264: frozenset({_H264_IDR}), Encoding.H265: frozenset(range(16, 22))}
OTHER_SLICES = {Encoding.H264: frozenset(range(1, 5)), Encoding.H265: frozenset({*range(16), *range(22, 32)})}


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """What a sequence parameter set says: its number, and the pictures' width and height in pixels after cropping.

    `frame_num_bits` and `fields_allowed` are needed to read slice headers of H.264, `video_number` is the video
    parameter set (VPS) that one of H.265 refers to.
    """

    number: int
    width: int
    height: int
    frame_num_bits: int = 0
    fields_allowed: bool = False
    video_number: int | None = None


@dataclass(frozen=True, slots=True)
class _PictureParameters:
    number: int
    sequence_number: int


def nal_type(encoding: Encoding, nal: bytes) -> int:
    """The nal_unit_type of a NAL unit, without its start code and not empty."""
    return nal[0] & 31 if encoding is Encoding.H264 else nal[0] >> 1 & 63


def nal_units(access_unit: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without their start codes and the zeros between them.

    Raises CrowError: INVALID "not_a_keyframe" for data that is no such stream, TOO_LARGE "picture_too_large" for more
    than `MAX_NAL_UNITS` of them.
    """
    return [access_unit[begin:end] for begin, end in _bounds(access_unit)]


def annex_b(units: Iterable[bytes]) -> bytes:
    """The byte stream of NAL units, each without its start code."""
    return b"".join(part for unit in units for part in (START_CODE, unit))


def with_parameter_sets(encoding: Encoding, access_unit: bytes, parameter_sets: Iterable[bytes]) -> bytes:
    """The access unit as it is if all its parameter sets are before its first slice, else with the stream's in front.

    `parameter_sets` are NAL units without start codes. Costs little: the slices are not looked at.
    """
    missing = set(PARAMETER_SETS[encoding])
    for begin in _begins(access_unit):
        kind = nal_type(encoding, access_unit[begin : begin + 1] or b"\0")
        missing.discard(kind)
        if not missing:
            return access_unit
        if kind in KEYFRAME_SLICES[encoding]:
            break
    return annex_b(parameter_sets) + access_unit


def _begins(access_unit: bytes) -> Iterator[int]:
    """Where the NAL units of an Annex B byte stream begin, behind their start codes."""
    return (found.end() for found in _SHORT_START_CODE.finditer(access_unit))


def _bounds(access_unit: bytes) -> list[tuple[int, int]]:
    """Where the NAL units of an Annex B byte stream begin and end. Raises CrowError as `nal_units`."""
    begins = list(islice(_begins(access_unit), MAX_NAL_UNITS + 1))
    if len(begins) > MAX_NAL_UNITS:
        raise CrowError(Kind.TOO_LARGE, "picture_too_large", f"a keyframe of more than {MAX_NAL_UNITS} NAL units")
    if not begins or access_unit[: begins[0]].strip(b"\0") != b"\1":
        raise _not_a_keyframe("it does not begin with a NAL unit")
    ends = [begin - _SHORT_START_CODE_BYTES for begin in begins[1:]] + [len(access_unit)]
    bounds = [(begin, _without_zeros(access_unit, begin, end)) for begin, end in zip(begins, ends, strict=True)]
    if any(begin >= end for begin, end in bounds):
        raise _not_a_keyframe("a NAL unit is empty")
    return bounds


def _without_zeros(access_unit: bytes, begin: int, end: int) -> int:
    """The end of a NAL unit, before the zeros that may follow it."""
    if end > begin and access_unit[end - 1] != 0:
        return end  # as nearly always: nothing is copied
    return begin + len(access_unit[begin:end].rstrip(b"\0"))


@lru_cache(maxsize=_CACHED_PARAMETER_SETS)
def sequence_parameters(encoding: Encoding, nal: bytes) -> SequenceParameters:
    """What a sequence parameter set, a NAL unit without its start code, says.

    Raises CrowError: INVALID "not_a_keyframe" for a damaged one, UNSUPPORTED "picture_unsupported" for other pictures
    than those of 8 bits in 4:2:0.
    """
    bits = _header(encoding, nal)
    try:
        return _h264_sequence(bits) if encoding is Encoding.H264 else _h265_sequence(bits)
    except BitsExhaustedError:
        raise _not_a_keyframe("its sequence parameters are damaged") from None


def picture_size(encoding: Encoding, parameter_sets: Iterable[bytes]) -> tuple[int, int] | None:
    """Width and height in pixels by the first sequence parameter set that says them; None where none does."""
    kind = _H264_SPS if encoding is Encoding.H264 else _H265_SPS
    for unit in parameter_sets:
        if nal_type(encoding, unit) == kind:
            with suppress(CrowError):
                parameters = sequence_parameters(encoding, unit)
                return parameters.width, parameters.height
    return None


@lru_cache(maxsize=_CACHED_PARAMETER_SETS)
def parameter_set_number(encoding: Encoding, nal: bytes) -> int:
    """The number of a parameter set, a NAL unit without its start code: a later one of its type replaces it by that.

    Raises CrowError: INVALID "not_a_keyframe" for a damaged one.
    """
    kind = nal_type(encoding, nal)
    if kind == _H265_VPS and encoding is Encoding.H265:
        return _video_number(nal)
    bits = _header(encoding, nal)
    try:
        if kind == _H264_SPS and encoding is Encoding.H264:
            bits.take(24)  # profile, constraint flags, level
        elif kind == _H265_SPS and encoding is Encoding.H265:
            bits.take(4)  # sps_video_parameter_set_id
            sub_layers = bits.take(3)
            bits.flag()  # sps_temporal_id_nesting_flag
            _skip_h265_profile(bits, sub_layers)
        return bits.unsigned()
    except BitsExhaustedError:
        raise _not_a_keyframe("its parameter sets are damaged") from None


def inspect_keyframe(encoding: Encoding, access_unit: bytes) -> tuple[int, int]:
    """The width and height in pixels of a keyframe that decodes alone.

    Raises CrowError: INVALID "not_a_keyframe" for anything but one access unit of a keyframe with its parameter sets in
    front, UNSUPPORTED "picture_unsupported" for pictures of more than 8 bits, of another chroma format than 4:2:0, of
    fields or of layers, TOO_LARGE "picture_too_large" for more than `MAX_NAL_UNITS` NAL units.
    """
    parameters = _ParameterSets(encoding)
    shown: SequenceParameters | None = None
    for begin, end in _bounds(access_unit):
        unit = access_unit[begin : min(end, begin + _LOOKED_AT_BYTES)]
        kind = _checked_type(encoding, unit)
        if kind in KEYFRAME_SLICES[encoding]:
            first, sequence = _slice(encoding, unit, parameters)
            if first != (shown is None):
                raise _not_a_keyframe("it holds two pictures" if first else "its first slice is missing")
            if shown not in (None, sequence):
                raise _not_a_keyframe("its slices are of different sequences")
            shown = sequence
        elif kind in OTHER_SLICES[encoding]:
            raise _not_a_keyframe("it needs other pictures")
        elif kind in PARAMETER_SETS[encoding]:
            if shown is not None:
                raise _not_a_keyframe("parameter sets follow its slices")
            parameters.add(kind, unit)
    if shown is None:
        raise _not_a_keyframe("it has no slices")
    return shown.width, shown.height


class _ParameterSets:
    """Those of one access unit; a later one takes the place of an earlier one of its number, as in a decoder."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._videos: set[int] = set()
        self._sequences: dict[int, SequenceParameters] = {}
        self._pictures: dict[int, _PictureParameters] = {}

    def add(self, kind: int, nal: bytes) -> None:
        if kind in (_H264_SPS, _H265_SPS):
            sequence = sequence_parameters(self._encoding, nal)
            self._sequences[sequence.number] = sequence
        elif kind in (_H264_PPS, _H265_PPS):
            picture = _picture_parameters(self._encoding, nal)
            self._pictures[picture.number] = picture
        else:
            self._videos.add(_video_number(nal))

    def of_picture(self, number: int) -> SequenceParameters:
        """The sequence parameters that a slice refers to by its picture parameters' number."""
        picture = self._pictures.get(number)
        sequence = self._sequences.get(picture.sequence_number) if picture else None
        if sequence is None or (self._encoding is Encoding.H265 and sequence.video_number not in self._videos):
            raise _not_a_keyframe("its parameter sets are missing")
        return sequence


def _checked_type(encoding: Encoding, nal: bytes) -> int:
    if nal[0] & 0x80:
        raise _not_a_keyframe("a NAL unit has a wrong header")
    if encoding is Encoding.H265:
        if len(nal) < _HEADER_BYTES[encoding] or nal[1] & 7 == 0:
            raise _not_a_keyframe("a NAL unit has a wrong header")
        if nal[0] & 1 or nal[1] & 0xF8:
            raise _unsupported("layers beside the base layer")
    return nal_type(encoding, nal)


def _header(encoding: Encoding, nal: bytes) -> Bits:
    if len(nal) > MAX_PARAMETER_SET_BYTES:
        raise _not_a_keyframe("a parameter set is too long")
    return Bits(nal[_HEADER_BYTES[encoding] :])


@lru_cache(maxsize=_CACHED_PARAMETER_SETS)
def _picture_parameters(encoding: Encoding, nal: bytes) -> _PictureParameters:
    """The fields from pic_parameter_set_id on, in both standards."""
    bits = _header(encoding, nal)
    try:
        return _PictureParameters(number=bits.unsigned(), sequence_number=bits.unsigned())
    except BitsExhaustedError:
        raise _not_a_keyframe("its picture parameters are damaged") from None


def _video_number(nal: bytes) -> int:
    """vps_video_parameter_set_id, in the first four bits."""
    payload = nal[_HEADER_BYTES[Encoding.H265] :]
    if not payload:
        raise _not_a_keyframe("its video parameters are damaged")
    return payload[0] >> 4


def _h264_sequence(bits: Bits) -> SequenceParameters:
    """seq_parameter_set_data of H.264, section 7.3.2.1.1."""
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level
    number = bits.unsigned()
    chroma_format, deepest_bits = _CHROMA_420, 8
    if profile in _H264_HIGH_PROFILES:
        chroma_format = bits.unsigned()
        if chroma_format == _CHROMA_444:
            bits.flag()  # separate_colour_plane_flag
        deepest_bits = 8 + max(bits.unsigned(), bits.unsigned())
        bits.flag()  # qpprime_y_zero_transform_bypass_flag
        if bits.flag():
            for index in range(12 if chroma_format == _CHROMA_444 else 8):
                if bits.flag():
                    _skip_h264_scaling_list(bits, 16 if index < 6 else 64)
    _check_samples(chroma_format, deepest_bits)
    frame_num_bits = bits.unsigned() + 4
    _skip_h264_picture_order(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.flag()  # gaps_in_frame_num_value_allowed_flag
    width_in_blocks, height_in_map_units = bits.unsigned() + 1, bits.unsigned() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.flag()  # mb_adaptive_frame_field_flag
    bits.flag()  # direct_8x8_inference_flag
    rows_per_unit = 1 if frames_only else 2  # of macroblocks in a map unit, and of crop units in the chroma plane
    width, height = _cropped(bits, width_in_blocks * 16, height_in_map_units * 16 * rows_per_unit, 2 * rows_per_unit)
    return SequenceParameters(number, width, height, frame_num_bits, fields_allowed=not frames_only)


def _skip_h264_scaling_list(bits: Bits, size: int) -> None:
    """scaling_list, section 7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following != 0:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_h264_picture_order(bits: Bits) -> None:
    order_type = bits.unsigned()
    if order_type == 0:
        bits.unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif order_type == 1:
        bits.flag()  # delta_pic_order_always_zero_flag
        bits.signed()  # offset_for_non_ref_pic
        bits.signed()  # offset_for_top_to_bottom_field
        cycle = bits.unsigned()
        if cycle > _H264_MOST_ORDER_CYCLE:
            raise BitsExhaustedError
        for _ in range(cycle):
            bits.signed()


def _h265_sequence(bits: Bits) -> SequenceParameters:
    """seq_parameter_set_rbsp of H.265, section 7.3.2.2.1."""
    video_number = bits.take(4)
    sub_layers = bits.take(3)  # beside the whole
    bits.flag()  # sps_temporal_id_nesting_flag
    _skip_h265_profile(bits, sub_layers)
    number = bits.unsigned()
    chroma_format = bits.unsigned()
    if chroma_format == _CHROMA_444:
        bits.flag()  # separate_colour_plane_flag
    width, height = _cropped(bits, bits.unsigned(), bits.unsigned(), 2)
    _check_samples(chroma_format, 8 + max(bits.unsigned(), bits.unsigned()))
    return SequenceParameters(number, width, height, video_number=video_number)


def _skip_h265_profile(bits: Bits, sub_layers: int) -> None:
    """profile_tier_level, section 7.3.3."""
    bits.take(_H265_PROFILE_BITS + _H265_LEVEL_BITS)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.take(2 * (8 - sub_layers))
    for profile, level in present:
        bits.take(_H265_PROFILE_BITS * profile + _H265_LEVEL_BITS * level)


def _cropped(bits: Bits, width: int, height: int, rows_per_crop_unit: int) -> tuple[int, int]:
    """Reads the cropping of a 4:2:0 picture, which both standards state alike, and takes it off."""
    if bits.flag():
        width -= 2 * (bits.unsigned() + bits.unsigned())
        height -= rows_per_crop_unit * (bits.unsigned() + bits.unsigned())
    if width <= 0 or height <= 0:
        raise _not_a_keyframe("its size is nothing")
    return width, height


def _check_samples(chroma_format: int, deepest_bits: int) -> None:
    if chroma_format != _CHROMA_420:
        raise _unsupported("another chroma format than 4:2:0")
    if deepest_bits != 8:
        raise _unsupported(f"{deepest_bits} bits a sample")


def _slice(encoding: Encoding, nal: bytes, parameters: _ParameterSets) -> tuple[bool, SequenceParameters]:
    """Whether a keyframe's slice is its picture's first, and the sequence that it is of."""
    bits = Bits(nal[_HEADER_BYTES[encoding] : _SLICE_HEADER_BYTES])
    try:
        if encoding is Encoding.H265:  # slice_segment_header, section 7.3.6.1
            first = bits.flag()
            bits.flag()  # no_output_of_prior_pics_flag
            return first, parameters.of_picture(bits.unsigned())
        first = bits.unsigned() == 0  # slice_header, section 7.3.3
        if bits.unsigned() not in _H264_INTRA_SLICES:
            raise _not_a_keyframe("it needs other pictures")
        sequence = parameters.of_picture(bits.unsigned())
        bits.take(sequence.frame_num_bits)
        if sequence.fields_allowed and bits.flag():
            raise _unsupported("separate fields")
    except BitsExhaustedError:
        raise _not_a_keyframe("a slice is damaged") from None
    return first, sequence


def _not_a_keyframe(why: str) -> CrowError:
    return CrowError(Kind.INVALID, "not_a_keyframe", f"not a keyframe that decodes alone: {why}")


def _unsupported(what: str) -> CrowError:
    return CrowError(Kind.UNSUPPORTED, "picture_unsupported", f"a keyframe of {what} is not supported")
