"""From coded bytes to pixels, for the worker process alone."""

from crow_receiver.ingest.picture import inspect_picture
from crow_receiver.vision.decode_jpeg import decode_jpeg
from crow_receiver.vision.decode_keyframe import decode_keyframe
from crow_receiver.vision.pixels import Pixels
from crow_shared.frame import Encoding


def decode(encoding: Encoding, coded: bytes, least: tuple[int, int]) -> Pixels:
    """The picture; smaller than it was taken where that costs less, but no side shorter than `least` (width, height).

    A picture that is smaller than `least` comes as it is. Raises what `inspect_picture` raises, and CrowError(CORRUPT)
    "picture_corrupt" when not every pixel can be decoded, as far as the decoder can tell: see `decode_keyframe`.
    """
    size = inspect_picture(encoding, coded)
    if encoding is Encoding.JPEG:
        return decode_jpeg(coded, size, least)
    return decode_keyframe(encoding, coded, size, least)
