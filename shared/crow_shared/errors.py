"""The closed set of kinds that every failure is sorted into.

A foreign error (libav, gRPC, SQLite, llama.cpp …) is translated once, where it enters, into a `CrowError` whose kind
says whether trying again can help. The message is for an operator: it names what failed and what to do, and never holds
a secret.
"""

from enum import StrEnum


class Kind(StrEnum):
    """Why something failed, as far as a caller can act on it."""

    INVALID = "invalid"  # the input is wrong and stays wrong
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    NOT_FOUND = "not_found"  # also: another tenant's
    CONFLICT = "conflict"
    CORRUPT = "corrupt"  # stored or received bytes fail their check
    UNAVAILABLE = "unavailable"  # a peer, disk or process is not there now
    TIMEOUT = "timeout"
    EXHAUSTED = "exhausted"  # a bound was reached
    INTERNAL = "internal"  # a defect of ours


RETRYABLE = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.EXHAUSTED})


class CrowError(Exception):
    """A failure of a known kind.

    `code` is a stable machine-readable word ("camera_unknown"), `message` a sentence for people.
    """

    def __init__(self, kind: Kind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.kind in RETRYABLE

    def __reduce__(self) -> tuple[type["CrowError"], tuple[Kind, str, str]]:
        """Pickles with its kind, so that it crosses process borders."""
        return (type(self), (self.kind, self.code, self.message))
