"""What the ingest boundary asks of every picture, whatever its coding, before anything is allocated for its pixels."""

from crow_receiver.ingest.jpeg import inspect_jpeg
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, MAX_PIXELS, Encoding
from crow_shared.h26x import inspect_keyframe


def inspect_picture(encoding: Encoding, coded: bytes) -> tuple[int, int]:
    """The picture's width and height in pixels, as its own headers state them; nothing is decoded.

    Raises CrowError: TOO_LARGE "picture_too_large" (bytes, pixels, or parts that cost a decoder too much), and what
    `inspect_jpeg` and `inspect_keyframe` raise.
    """
    if len(coded) > MAX_PICTURE_BYTES:
        raise _too_large(f"{len(coded)} bytes; at most {MAX_PICTURE_BYTES} are taken")
    width, height = inspect_jpeg(coded) if encoding is Encoding.JPEG else inspect_keyframe(encoding, coded)
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height}; at most {MAX_PIXELS} pixels are taken")
    return width, height


def _too_large(why: str) -> CrowError:
    return CrowError(Kind.TOO_LARGE, "picture_too_large", f"the picture is too large: {why}")
