"""How much the spool may take, and what goes when there is no room."""

from dataclasses import dataclass
from enum import StrEnum


class DropPolicy(StrEnum):
    """Which frames go when there is no room for all."""

    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """The bounds; `max_age_s` 0: for ever, `min_free_bytes` 0: to the last byte."""

    max_bytes: int
    max_age_s: float = 0
    min_free_bytes: int = 0
    drop: DropPolicy = DropPolicy.OLDEST
