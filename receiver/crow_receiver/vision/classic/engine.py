"""The engine without weights: motion analysis with OpenCV, honest about how little it can tell.

Invariants
1. State is kept for the `MAX_CAMERAS` cameras seen last; one that comes back after that starts with no reference.
2. It never says what somebody does with a product: each region has one interaction, `unknown`, with confidence 0.
3. Frames are looked at one after the other, in the order in which they were begun. Several slots are there so that the
   next pictures are decoded meanwhile.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence

from crow_receiver.vision.classic.motion import REDUCED_WIDTH, Region, Scenery
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import Finished, VisionRequest
from crow_receiver.vision.schema import (
    Action,
    Activity,
    LineCrossings,
    Movement,
    Person,
    ProductInteraction,
    Role,
    Scene,
)
from crow_receiver.vision.usage import Usage
from crow_receiver.vision.zones import Way, area_at, areas, crossed, lines
from crow_shared.zones import Zone

MAX_CAMERAS = 512  # about 0.7 MB each; a camera whose late frames are seen beside those of now counts twice
_CONFIDENCE_MOVING = 0.3  # what moves and is upright is often a person
_CONFIDENCE_OTHER = 0.2
_MOST_PLACES_CHARS = 240  # the zones' names are not ours; the description has to fit its bound
_MOST_LINES_CHARS = 100
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
    quantization: str | None = None
    prompt_version: str | None = None
    limits: tuple[str, ...] = (
        "sees motion, not people: a moving cart counts as a person, people close together as one",
        "somebody who stands still for some minutes is no longer seen",
        "takes the lower edge of what moves for where it stands: hidden feet count to another zone",
        "counts who crosses a line between frames at most 3 s apart, and people close together as one",
        "cannot tell roles, activities, queues, products or what is done with them",
        "a camera's first frame, and one after the light or the view changed, has no reference to compare with",
    )

    slots = 4
    least_side = (REDUCED_WIDTH, 1)
    trouble: str | None = None

    def __init__(self) -> None:
        self._sceneries: OrderedDict[str, Scenery] = OrderedDict()
        self._begun: deque[tuple[int, VisionRequest, Pixels]] = deque()

    def begin(self, key: int, request: VisionRequest, picture: Pixels) -> None:
        """Takes a frame in."""
        self._begun.append((key, request, picture))

    def step(self, wait_s: float) -> list[Finished]:
        """Looks at the frame that was begun first."""
        if not self._begun:
            return []
        key, request, picture = self._begun.popleft()
        return [Finished(key, self.look(request, picture), Usage())]

    def abort(self, key: int) -> None:
        """Forgets a frame."""
        self._begun = deque(begun for begun in self._begun if begun[0] != key)

    def look(self, request: VisionRequest, picture: Pixels) -> Scene:
        """What moved since the camera's earlier frames."""
        look = self._scenery(request.camera).look(picture, request.capture_us)
        if not look.compared:
            return _scene((), None, 0.0, f"Nothing can be said about this frame: there is no reference yet. {_METHOD}")
        zones, gates = areas(request.zones), lines(request.zones)
        people = tuple(_person(region, zones) for region in look.regions)
        crossings = _crossings(look.regions, gates) if gates and look.followed else None
        description = " ".join((_sentence(people), *_crossing_sentence(crossings or ()), _METHOD))
        return _scene(people, crossings, _CONFIDENCE_OTHER, description)

    def _scenery(self, camera: str) -> Scenery:
        scenery = self._sceneries.setdefault(camera, Scenery())
        self._sceneries.move_to_end(camera)
        if len(self._sceneries) > MAX_CAMERAS:
            self._sceneries.popitem(last=False)
        return scenery


def _person(region: Region, zones: tuple[Zone, ...]) -> Person:
    moving = region.movement not in (Movement.STILL, Movement.UNKNOWN)
    return Person(
        role=Role.UNKNOWN,
        zone=area_at(region.foot, zones),
        activity=Activity.UNKNOWN,
        movement=region.movement,
        confidence=_CONFIDENCE_MOVING if moving else _CONFIDENCE_OTHER,
    )


def _crossings(regions: Iterable[Region], gates: tuple[Zone, ...]) -> list[LineCrossings]:
    """The lines that regions crossed since the frame before; one that stands on a line and sways does not cross it."""
    moved = [region for region in regions if region.movement is not Movement.STILL]
    crossings = []
    for gate in gates:
        ways = Counter(crossed(gate, region.before, region.foot) for region in moved if region.before is not None)
        if ways[Way.INWARDS] or ways[Way.OUTWARDS]:
            inwards, outwards = ways[Way.INWARDS], ways[Way.OUTWARDS]
            crossings.append(LineCrossings(line=gate.name, inwards=inwards, outwards=outwards))
    return crossings


def _scene(
    people: tuple[Person, ...], crossings: list[LineCrossings] | None, confidence: float, description: str
) -> Scene:
    return Scene(
        people=list(people),
        interactions=[
            ProductInteraction(action=Action.UNKNOWN, product=None, zone=person.zone, confidence=0.0)
            for person in people
        ],
        queue_length=None,
        crossings=crossings,
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
            parts.append(f"{_NUMBERS[len(people) - told].lower()} in other places")
            break
    return f"{_NUMBERS[len(people)]} moving regions that may be people: {', '.join(parts)}."


def _crossing_sentence(crossings: Sequence[LineCrossings]) -> tuple[str, ...]:
    """One sentence, or none; as many lines as fit."""
    told = ""
    for crossing in crossings:
        ways = ((crossing.inwards, "inwards"), (crossing.outwards, "outwards"))
        part = f"{crossing.line} " + " and ".join(f"{count} {way}" for count, way in ways if count)
        if len(told) + len(part) > _MOST_LINES_CHARS:
            return (f"Crossed since the frame before: {told}and others.",)
        told += f"{part}, "
    return (f"Crossed since the frame before: {told[:-2]}.",) if told else ()


def _place(person: Person) -> str:
    return f"{person.zone} {_MOVING[person.movement]}"
