"""The two pipes to the supervisor.

Invariants
1. Only protocol messages reach the supervisor's pipe: native code that prints goes to standard error.
2. A message goes out whole, whichever threads send at the same time.
"""

import os
import threading
from typing import BinaryIO

from pydantic import BaseModel

from crow_receiver.vision.worker.protocol import LENGTHS, packed, unpacked_lengths


class Pipe:
    """What the worker hears and says."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = threading.Lock()

    @classmethod
    def taken(cls) -> "Pipe":
        """Standard input and output, taken away from everything else in this process."""
        incoming, outgoing = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next message's header and body; None at the end of input, in whichever place it comes."""
        prefix = self._incoming.read(LENGTHS.size)
        if len(prefix) < LENGTHS.size:
            return None
        header_bytes, body_bytes = unpacked_lengths(prefix)
        header, body = self._incoming.read(header_bytes), self._incoming.read(body_bytes)
        return (header, body) if len(header) == header_bytes and len(body) == body_bytes else None

    def send(self, message: BaseModel, body: bytes = b"") -> None:
        """Sends a message. Raises OSError when nobody reads any more."""
        with self._sending:
            self._outgoing.write(packed(message, body))
            self._outgoing.flush()
