"""What an engine says about one frame: the one result schema that every engine fills in.

`unknown` means that the engine cannot tell from the picture; it is never a guess and never "no". There are no fields
for emotion, identity, ethnicity or health, and there shall be none.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from crow_receiver.vision.usage import Usage
from crow_shared.zones import MAX_ZONES

SCHEMA_VERSION = 1
MAX_PEOPLE = 8
MAX_INTERACTIONS = 8
MAX_DESCRIPTION_CHARS = 600
MAX_SHORT_TEXT_CHARS = 60
MAX_CROSSED_LINES = MAX_ZONES

Share = Annotated[float, Field(ge=0, le=1)]
ShortText = Annotated[str, Field(max_length=MAX_SHORT_TEXT_CHARS)]


class Role(StrEnum):
    """Why somebody is in the shop."""

    CUSTOMER = "customer"
    STAFF = "staff"
    UNKNOWN = "unknown"


class Activity(StrEnum):
    """What somebody does, apart from touching products."""

    ENTERING = "entering"
    LEAVING = "leaving"
    WALKING = "walking"
    STANDING = "standing"
    BROWSING = "browsing"
    QUEUEING = "queueing"
    PAYING = "paying"
    TALKING = "talking"
    WORKING = "working"
    UNKNOWN = "unknown"


class Movement(StrEnum):
    """Where somebody moves, as seen in the picture."""

    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    TOWARDS = "towards"  # the camera
    AWAY = "away"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What somebody does with a product."""

    BROWSE = "browse"
    TOUCH = "touch"
    PICKUP = "pickup"
    PUTBACK = "putback"
    CARRY = "carry"
    RETURN = "return"
    UNKNOWN = "unknown"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Person(_Strict):
    """One person in the picture; `zone` is a zone's name, `elsewhere` or `unknown`, `confidence` is from 0 to 1."""

    role: Role
    zone: ShortText
    activity: Activity
    movement: Movement
    confidence: Share


class ProductInteraction(_Strict):
    """One handling of a product.

    `product` is a hint in the engine's words, `category` one of those that the operator listed for the camera; None
    where the engine cannot tell.
    """

    action: Action
    product: ShortText | None
    category: ShortText | None = None
    zone: ShortText
    confidence: Share


class LineCrossings(_Strict):
    """How many crossed one of the camera's lines since the frame before, each way.

    Inwards is from the line's left to its right, looking from its first point to its second.
    """

    line: ShortText
    inwards: Annotated[int, Field(ge=0, le=MAX_PEOPLE)]
    outwards: Annotated[int, Field(ge=0, le=MAX_PEOPLE)]


class Scene(_Strict):
    """All that one frame shows.

    `crossings` are of the lines that somebody crossed; None where the engine cannot tell, or the camera has no line.
    `queue_length` counts the people who wait at a till; None where the engine cannot tell. `description` stands on its
    own: the services behind the queues read nothing else.
    """

    people: Annotated[list[Person], Field(max_length=MAX_PEOPLE)]
    interactions: Annotated[list[ProductInteraction], Field(max_length=MAX_INTERACTIONS)]
    queue_length: Annotated[int, Field(ge=0, le=99)] | None
    crossings: Annotated[list[LineCrossings], Field(max_length=MAX_CROSSED_LINES)] | None = None
    confidence: Share
    description: Annotated[str, Field(min_length=1, max_length=MAX_DESCRIPTION_CHARS)]


class PassedOver(_Strict):
    """An engine that the camera prefers, and why it was not asked."""

    engine: ShortText
    reason: str


class Provenance(_Strict):
    """Which engine said so, with what, and why this one.

    `model` is its name in the model store or at the server, None for an engine without weights; its sha256 and
    `quantization` are known where this machine has the file. `limits` lists in plain words what this engine cannot
    tell. `duration_ms` is from the frame's coming into the worker to its answer. `passed_over` are engines that would
    have had the frame, had they not been down. `duplicate_of` is the index of the session's frame that was described,
    where this one shows the same and was not.
    """

    engine: ShortText
    model: str | None
    model_sha256: str | None
    prompt_version: str | None
    schema_version: int = SCHEMA_VERSION
    limits: list[str]
    duration_ms: int
    quantization: str | None = None
    usage: Usage = Usage()
    passed_over: list[PassedOver] = []
    duplicate_of: int | None = None


class Analysis(_Strict):
    """A scene and where it comes from."""

    scene: Scene
    provenance: Provenance
