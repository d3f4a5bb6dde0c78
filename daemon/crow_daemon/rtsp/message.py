"""Answers of RTSP (RFC 2326 section 7), taken from the bytes that came. No I/O."""

import re
from dataclasses import dataclass

from crow_shared.errors import CrowError, Kind

BEGINS = b"RTSP/"
MAX_HEADER_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 10
_END_OF_HEADER = b"\r\n\r\n"
_LENGTH = re.compile(r"[0-9]{1,9}")
_STATUS = re.compile(r"[0-9]{3}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a camera answered; names of headers are in small letters."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def all(self, name: str) -> list[str]:
        """The values of a header, in order."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


def next_answer(received: bytes | bytearray, begin: int, end: int) -> tuple[Answer, int] | None:
    """The answer at `begin` and where it ends; None while there is more of it to come after `end`.

    Raises CrowError: CORRUPT "not_rtsp" for anything else, TOO_LARGE "answer_too_large" for a header of more than
    `MAX_HEADER_BYTES` or a body of more than `MAX_BODY_BYTES`.
    """
    if not BEGINS.startswith(received[begin : min(begin + len(BEGINS), end)]):
        raise not_rtsp()
    body_begin = received.find(_END_OF_HEADER, begin, min(end, begin + MAX_HEADER_BYTES)) + len(_END_OF_HEADER)
    if body_begin < len(_END_OF_HEADER):
        if end - begin >= MAX_HEADER_BYTES:
            raise CrowError(Kind.TOO_LARGE, "answer_too_large", "the camera's answer has headers without end")
        return None
    first, *lines = received[begin : body_begin - len(_END_OF_HEADER)].decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not _STATUS.fullmatch(words[1]):
        raise not_rtsp()
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    body_end = body_begin + _body_bytes(dict(headers).get("content-length", "0"))
    if body_end > end:
        return None
    return Answer(int(words[1]), headers, received[body_begin:body_end].decode("utf-8", "replace")), body_end


def not_rtsp() -> CrowError:
    """What to raise for bytes that are no answer."""
    return CrowError(Kind.CORRUPT, "not_rtsp", "what answers there does not speak RTSP; check the port")


def _body_bytes(length: str) -> int:
    if not length.isdecimal() or not length.isascii():
        raise not_rtsp()
    if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY_BYTES:
        raise CrowError(Kind.TOO_LARGE, "answer_too_large", f"the camera announces {length[:12]} bytes of answer")
    return int(length)
