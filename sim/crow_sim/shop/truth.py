"""What a rendered picture shows, exactly: the words are those that the analysis of frames uses."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Why somebody is in the shop."""

    CUSTOMER = "customer"
    STAFF = "staff"


class Activity(StrEnum):
    """What somebody does, apart from touching products."""

    ENTERING = "entering"
    LEAVING = "leaving"
    WALKING = "walking"
    STANDING = "standing"
    BROWSING = "browsing"
    QUEUEING = "queueing"
    PAYING = "paying"
    WORKING = "working"


class Movement(StrEnum):
    """Where somebody moves, as seen in the picture."""

    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    TOWARDS = "towards"
    AWAY = "away"


class Action(StrEnum):
    """What somebody does with a product."""

    BROWSE = "browse"
    TOUCH = "touch"
    PICKUP = "pickup"
    PUTBACK = "putback"
    CARRY = "carry"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; `right` and `bottom` lie just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """In pixels."""
        return max(0, self.right - self.left) * max(0, self.bottom - self.top)

    def clipped(self, width: int, height: int) -> "Box":
        """The part that lies within a picture of this size."""
        return Box(max(0, self.left), max(0, self.top), min(width, self.right), min(height, self.bottom))


@dataclass(frozen=True, slots=True)
class PersonTruth:
    """One person in the picture.

    `box` is the part of the figure within the picture, whatever stands in front of it.
    """

    person: str
    role: Role
    zone: str
    activity: Activity
    movement: Movement
    box: Box


@dataclass(frozen=True, slots=True)
class InteractionTruth:
    """What one person does with a product at this moment; `product` is None for mere looking around."""

    person: str
    action: Action
    product: str | None
    zone: str


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """All that one picture shows; `time_s` counts from the start of the scene."""

    time_s: float
    people: tuple[PersonTruth, ...]
    interactions: tuple[InteractionTruth, ...]
    queue_length: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        return asdict(self)
