"""Messages on the socket between daemon and worker: two lengths, a protobuf message, the bytes of pictures.

The pictures stay outside the protobuf message, so that they are not copied when it is made and parsed.
"""

import struct

from google.protobuf.message import DecodeError, Message

from crow.capture.v1 import worker_pb2 as pb
from crow_shared.errors import CrowError, Kind

LENGTHS = struct.Struct("!II")  # of the message, of all pictures behind it; in bytes
MAX_EVENTS = 1000  # in one report
MAX_WORDS_CHARACTERS = 600  # of a text in an event
MAX_MESSAGE_BYTES = 4 << 20
MAX_PICTURES_BYTES = 16 << 20  # in one report: all that a worker may have taken without the daemon's knowing


def packed(message: Message, pictures_bytes: int = 0) -> bytes:
    """The message with its lengths in front; so many bytes of pictures follow it."""
    body = message.SerializeToString()
    return LENGTHS.pack(len(body), pictures_bytes) + body


def checked_lengths(prefix: bytes) -> tuple[int, int]:
    """The length of the message and of its pictures, in bytes. Raises CrowError(CORRUPT) "worker_protocol"."""
    message_bytes, pictures_bytes = LENGTHS.unpack(prefix)
    if message_bytes > MAX_MESSAGE_BYTES or pictures_bytes > MAX_PICTURES_BYTES:
        raise violation(f"a message of {message_bytes} bytes with {pictures_bytes} bytes of pictures")
    return message_bytes, pictures_bytes


def parsed_report(body: bytes) -> pb.Report:
    """The report. Raises CrowError(CORRUPT) "worker_protocol"."""
    try:
        return pb.Report.FromString(body)
    except DecodeError:
        raise violation("a message that is none") from None


def violation(what: str) -> CrowError:
    """The error for what no worker of ours says: it has a defect, or hostile bytes have taken it over."""
    return CrowError(Kind.CORRUPT, "worker_protocol", f"the capture worker sent {what}")
