"""The engine without weights: motion analysis with OpenCV, honest about how little it can tell.

Invariants
1. State is kept for the `MAX_CAMERAS` cameras seen last; one that comes back after that starts with no reference.
2. It never says what somebody does with a product: each region has one interaction, `unknown`, with confidence 0.
"""

from collections import Counter, OrderedDict

from crow_receiver.vision.decode import decode_jpeg
from crow_receiver.vision.motion import Region, Scenery
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import (
    UNKNOWN_ZONE,
    Action,
    Activity,
    Movement,
    Person,
    ProductInteraction,
    Role,
    Scene,
)

MAX_CAMERAS = 512  # about 0.7 MB each; a camera whose late frames are seen beside those of now counts twice
_CONFIDENCE_MOVING = 0.3  # what moves and is upright is often a person
_CONFIDENCE_OTHER = 0.2
_MOST_PLACES_CHARS = 300  # the zones' names are not ours; the description has to fit its bound
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")
_METHOD = "Seen by motion analysis without a model; what they do with products is unknown."
_MOVING = {
    Movement.STILL: "still",
    Movement.LEFT: "moving left",
    Movement.RIGHT: "moving right",
    Movement.TOWARDS: "coming towards the camera",
    Movement.AWAY: "going away from the camera",
    Movement.UNKNOWN: "with unknown movement",
}


class ClassicEngine:
    """Describes frames by what differs from the camera's usual picture."""

    name = "classic"
    model: str | None = None
    model_sha256: str | None = None
    prompt_version: str | None = None
    limits: tuple[str, ...] = (
        "sees motion, not people: a moving cart counts as a person, people close together as one",
        "somebody who stands still for some minutes is no longer seen",
        "cannot tell roles, activities, queues, products or what is done with them",
        "a camera's first frame, and one after the light or the view changed, has no reference to compare with",
    )

    def __init__(self) -> None:
        self._sceneries: OrderedDict[str, Scenery] = OrderedDict()

    def describe(self, request: VisionRequest) -> Scene:
        """What moved since the camera's earlier frames. Raises CrowError(CORRUPT) as `decode_jpeg` does."""
        picture = decode_jpeg(request.jpeg)
        look = self._scenery(request.camera).look(picture, request.capture_us)
        if not look.compared:
            return _scene((), 0.0, f"Nothing can be said about this frame: there is no reference yet. {_METHOD}")
        people = tuple(_person(region, request.zones) for region in look.regions)
        return _scene(people, _CONFIDENCE_OTHER, f"{_sentence(people)} {_METHOD}")

    def _scenery(self, camera: str) -> Scenery:
        scenery = self._sceneries.setdefault(camera, Scenery())
        self._sceneries.move_to_end(camera)
        if len(self._sceneries) > MAX_CAMERAS:
            self._sceneries.popitem(last=False)
        return scenery


def _person(region: Region, zones: tuple[str, ...]) -> Person:
    index = min(int(region.foot_x * len(zones)), len(zones) - 1)
    moving = region.movement not in (Movement.STILL, Movement.UNKNOWN)
    return Person(
        role=Role.UNKNOWN,
        zone=zones[index] if zones else UNKNOWN_ZONE,
        activity=Activity.UNKNOWN,
        movement=region.movement,
        confidence=_CONFIDENCE_MOVING if moving else _CONFIDENCE_OTHER,
    )


def _scene(people: tuple[Person, ...], confidence: float, description: str) -> Scene:
    return Scene(
        people=list(people),
        interactions=[
            ProductInteraction(action=Action.UNKNOWN, product=None, zone=person.zone, confidence=0.0)
            for person in people
        ],
        queue_length=None,
        confidence=confidence,
        description=description,
    )


def _sentence(people: tuple[Person, ...]) -> str:
    if not people:
        return "No moving region that may be a person."
    if len(people) == 1:
        return f"One moving region that may be a person: in {_place(people[0])}."
    parts: list[str] = []
    told = 0
    for place, count in Counter(map(_place, people)).items():
        parts.append(f"{_NUMBERS[count].lower()} in {place}")
        told += count
        if sum(map(len, parts)) > _MOST_PLACES_CHARS and told < len(people):
            parts.append(f"{_NUMBERS[len(people) - told].lower()} elsewhere")
            break
    return f"{_NUMBERS[len(people)]} moving regions that may be people: {', '.join(parts)}."


def _place(person: Person) -> str:
    return f"{person.zone} {_MOVING[person.movement]}"
