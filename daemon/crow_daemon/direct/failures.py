"""What the direct reader says when a stream is not for it."""

from crow_shared.errors import CrowError, Kind

DIRECT_UNSUPPORTED = "direct_unsupported"


def unsupported(why: str) -> CrowError:
    """A stream that another reader may take; `why` ends the sentence."""
    return CrowError(Kind.UNSUPPORTED, DIRECT_UNSUPPORTED, f"the direct reader cannot take this stream: {why}")
