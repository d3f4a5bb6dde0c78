"""From coded bytes to pixels, for the worker process alone."""

from crow_receiver.ingest.picture import inspect_picture
from crow_receiver.vision.decode_jpeg import decode_jpeg
from crow_receiver.vision.decode_keyframe import decode_keyframe
from crow_receiver.vision.pixels import PARTS, Pixels
from crow_shared.frame import Encoding


def decode(encoding: Encoding, coded: bytes, least: tuple[int, int]) -> Pixels:
    """The picture, at half, a quarter or an eighth of its size if no side gets shorter than `least` (width, height).

    That costs less to make and to work on. Raises what `inspect_picture` raises, and CrowError(CORRUPT)
    "picture_corrupt" when not every pixel can be decoded, as far as the decoder can tell: see `decode_keyframe`.
    """
    size = inspect_picture(encoding, coded)
    part = max(part for part in PARTS if part == 1 or (size[0] >= least[0] * part and size[1] >= least[1] * part))
    return decode_jpeg(coded, size, part) if encoding is Encoding.JPEG else decode_keyframe(encoding, coded, size, part)
