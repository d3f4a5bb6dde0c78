"""What is known about one frame: a line of `labels.jsonl`.

A field that is absent is not labelled, and nothing is scored by it. A label says what is; so there is no `unknown`.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crow_receiver.vision.schema import Action, Activity, Movement, Role, ShortText
from crow_shared.zones import UNKNOWN_ZONE

Count = Annotated[int, Field(ge=0, le=99)]


class Labelled(StrEnum):
    """What can be labelled; `role` to `movement` are of the people in a frame."""

    PEOPLE_COUNT = "people_count"
    ROLE = "role"
    ZONE = "zone"
    ACTIVITY = "activity"
    MOVEMENT = "movement"
    INTERACTIONS = "interactions"
    QUEUE_LENGTH = "queue_length"


TRAITS = (Labelled.ROLE, Labelled.ZONE, Labelled.ACTIVITY, Labelled.MOVEMENT)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonLabel(_Strict):
    """One person; `zone` is one of the camera's areas, or `elsewhere`."""

    role: Role | None = None
    zone: ShortText | None = None
    activity: Activity | None = None
    movement: Movement | None = None

    @model_validator(mode="after")
    def _says_what_is(self) -> Self:
        _refuse_unknown(self.role, self.zone, self.activity, self.movement)
        return self

    def trait(self, name: Labelled) -> str | None:
        """One of `TRAITS`, or None where it is not labelled."""
        value: str | None = getattr(self, name)
        return value


class InteractionLabel(_Strict):
    """One handling of a product, with what it was where that is known."""

    action: Action
    product: ShortText | None = None

    @model_validator(mode="after")
    def _says_what_is(self) -> Self:
        _refuse_unknown(self.action)
        return self


class Label(_Strict):
    """One frame of a camera, `time_s` after the camera's first; `file` is its picture where there is no clip."""

    camera: str
    time_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
    file: str | None = None
    people_count: Count | None = None
    people: list[PersonLabel] | None = None
    interactions: list[InteractionLabel] | None = None
    queue_length: Count | None = None

    @property
    def count(self) -> int | None:
        """How many people are in the frame, or None where it is not labelled."""
        return len(self.people) if self.people is not None else self.people_count

    def traits(self, name: Labelled) -> list[str] | None:
        """One of `TRAITS` for all people in the frame, or None unless it is labelled for each of them."""
        if self.people is None:
            return None
        found = [person.trait(name) for person in self.people]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else None

    @property
    def labelled(self) -> frozenset[Labelled]:
        """What this line says anything about."""
        fields = {
            Labelled.PEOPLE_COUNT: self.count,
            Labelled.INTERACTIONS: self.interactions,
            Labelled.QUEUE_LENGTH: self.queue_length,
        }
        said = {name for name, value in fields.items() if value is not None}
        return frozenset(said | {name for name in TRAITS for one in self.people or () if one.trait(name) is not None})

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.people is not None and self.people_count not in (None, len(self.people)):
            raise ValueError(f"people_count is {self.people_count}, but {len(self.people)} people are listed")
        if self.count == 0 and self.interactions:
            raise ValueError("somebody handles a product, but nobody is there")
        if self.queue_length is not None and self.count is not None and self.queue_length > self.count:
            raise ValueError(f"{self.queue_length} people queue, but only {self.count} are there")
        queueing = sum(person.activity is Activity.QUEUEING for person in self.people or ())
        if self.queue_length is not None and queueing > self.queue_length:
            raise ValueError(f"{queueing} people are labelled as queueing, but queue_length is {self.queue_length}")
        return self


def _refuse_unknown(*values: str | None) -> None:
    if UNKNOWN_ZONE in values:
        raise ValueError("a label says what is: leave out what is unknown")
