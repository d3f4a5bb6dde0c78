"""Names that hold for ever: cameras, frames and what is derived from them.

A camera is (organization, site, camera id). A frame is that plus the spool epoch and the sequence number, and every
later identity (session, batch, message) is derived from these, so that a replay after a crash gives the same names.
"""

import re
from dataclasses import dataclass

from crow_shared.errors import CrowError, Kind

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
ID_RULE = "1 to 63 of a-z, 0-9, '-' and '_', with a letter or digit at both ends"


def checked_id(value: str, what: str) -> str:
    """Returns `value` when it can serve as an id in paths, subjects and URLs.

    Raises CrowError(INVALID) naming `what` and the rule.
    """
    if not _ID.fullmatch(value):
        raise CrowError(Kind.INVALID, "bad_id", f"{what} {value[:80]!r} is no valid id: {ID_RULE}")
    return value


@dataclass(frozen=True, slots=True, order=True)
class CameraKey:
    """One camera of one site of one organization."""

    organization_id: str
    site_id: str
    camera_id: str

    def __str__(self) -> str:
        """organization/site/camera."""
        return f"{self.organization_id}/{self.site_id}/{self.camera_id}"


def valid_id(value: str) -> str:
    """`checked_id` for pydantic fields, which want a ValueError."""
    try:
        return checked_id(value, "value")
    except CrowError as error:
        raise ValueError(error.message) from None
