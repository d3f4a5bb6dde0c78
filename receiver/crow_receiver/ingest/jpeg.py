"""What can be told of a JPEG without decoding it: whether it is one, is whole, and how large it would become.

The ingest boundary takes bytes from outside and allocates nothing for them here: the segments are walked by their
stated lengths, the coded data is skipped by one search for the next marker. A picture that passes may still be damaged
inside; the worker finds out when it decodes it.
"""

import re

from crow_shared.errors import CrowError, Kind

MAX_SCANS = 64  # each scan of a progressive JPEG costs its decoder a pass over the whole picture
MAX_MARKERS = 1000  # a real picture has some dozen; walking over a million would hold everybody else up
MAX_PADDING_BYTES = 4096  # zeros behind the end, as some cameras send them

_START = b"\xff\xd8"
_SCAN, _END = 0xDA, 0xD9
_DECODABLE_FRAMES = (0xC0, 0xC1, 0xC2)  # SOF0 baseline, SOF1 extended, SOF2 progressive
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # lossless, hierarchical, arithmetic
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))  # TEM, RST0 … RST7
_FRAME_HEADER_BYTES = 8  # length, precision, height, width, component count

# Bytes that lie between segments belong to nobody, and 0xFF may be repeated before a marker.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# Inside coded data 0xFF 0x00 is a literal 0xFF, and RST markers are part of the data.
_MARKER_AFTER_DATA = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def inspect_jpeg(jpeg: bytes) -> tuple[int, int]:
    """The picture's width and height in pixels.

    Raises CrowError: TOO_LARGE "picture_too_large" (too many scans), INVALID "not_a_picture", INVALID
    "picture_truncated", UNSUPPORTED "picture_unsupported" (a JPEG of a rare coding).
    """
    if not jpeg.startswith(_START):
        raise _not_a_picture("the data does not begin as a JPEG does")
    size: tuple[int, int] | None = None
    scans = 0
    position, pattern = len(_START), _MARKER
    for _ in range(MAX_MARKERS):
        found = pattern.search(jpeg, position)
        if found is None:
            raise _truncated("its end is missing")
        marker, position, pattern = found[1][0], found.end(), _MARKER
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _END:
            break
        segment = _segment(jpeg, position)
        position += len(segment)
        if marker in _DECODABLE_FRAMES:
            if size is not None:
                raise _not_a_picture("it states its size twice")
            size = _frame_size(segment)
        elif marker in _OTHER_FRAMES:
            raise CrowError(Kind.UNSUPPORTED, "picture_unsupported", f"JPEG coding 0x{marker:02X} is not supported")
        elif marker == _SCAN:
            scans += 1
            if size is None:
                raise _not_a_picture("its data begins before its size is stated")
            if scans > MAX_SCANS:
                raise _too_large(f"more than {MAX_SCANS} scans")
            pattern = _MARKER_AFTER_DATA
    else:
        raise _not_a_picture(f"more than {MAX_MARKERS} segments")
    if size is None or scans == 0:
        raise _truncated("it ends before its data")
    _check_padding(jpeg, position)
    return size


def _segment(jpeg: bytes, position: int) -> bytes:
    """The segment whose two length bytes are at `position`, those included."""
    length = int.from_bytes(jpeg[position : position + 2], "big")
    segment = jpeg[position : position + length]
    if len(segment) < max(length, 2):
        raise _truncated("it ends within a segment")
    if length < 2:  # it counts its own two bytes
        raise _not_a_picture("a segment has no length")
    return segment


def _frame_size(segment: bytes) -> tuple[int, int]:
    if len(segment) < _FRAME_HEADER_BYTES:
        raise _not_a_picture("its size is missing")
    precision, components = segment[2], segment[7]
    height, width = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[5:7], "big")
    if width == 0 or height == 0:
        raise _not_a_picture(f"its size is {width} x {height}")
    if precision != 8 or components not in (1, 3):  # grey or colour
        raise CrowError(
            Kind.UNSUPPORTED, "picture_unsupported", f"a JPEG of {components} components of {precision} bits"
        )
    return width, height


def _check_padding(jpeg: bytes, end: int) -> None:
    padding = jpeg[end:]
    if len(padding) > MAX_PADDING_BYTES or padding.strip(b"\0"):
        raise _not_a_picture(f"{len(padding)} bytes follow its end")


def _not_a_picture(why: str) -> CrowError:
    return CrowError(Kind.INVALID, "not_a_picture", f"not a JPEG: {why}")


def _truncated(why: str) -> CrowError:
    return CrowError(Kind.INVALID, "picture_truncated", f"the JPEG is cut off: {why}")


def _too_large(why: str) -> CrowError:
    return CrowError(Kind.TOO_LARGE, "picture_too_large", f"the picture is too large: {why}")
