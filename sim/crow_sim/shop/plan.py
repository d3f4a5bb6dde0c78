"""Scenes made up from a seed: busy stretches with visits, each followed by an empty one."""

from dataclasses import dataclass, field

import numpy as np

from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.script import Colour, Handle, Look, Place, Stay, Step, Timeline, Visit, Walk
from crow_sim.shop.truth import Action, Activity, Role
from crow_sim.shop.view import AISLE, View

_CYCLE_S = 60.0
_BUSY_SHARE = 0.7  # of each cycle; the rest is empty
_ARRIVAL_GAP_S = (4.0, 9.0)
_REACTION_S = 0.6  # until one who queues notices that the one in front has moved

_SHIRTS: tuple[Colour, ...] = (
    (60, 60, 170),
    (160, 100, 50),
    (70, 140, 90),
    (190, 190, 200),
    (40, 150, 200),
    (110, 60, 110),
    (45, 45, 50),
)
_TROUSERS: tuple[Colour, ...] = ((100, 64, 44), (56, 56, 60), (70, 96, 128), (120, 110, 100))
_HAIR: tuple[Colour, ...] = ((24, 28, 36), (30, 50, 80), (60, 110, 160), (150, 150, 155))
_SKIN: tuple[Colour, ...] = ((150, 180, 224), (120, 156, 206), (84, 116, 166), (54, 76, 112))
_STAFF_SHIRT: Colour = (70, 170, 60)


def planned_scene(view: View, seed: int, seconds: float, light: Light | None = None) -> Scene:
    """A scene of at least `seconds`: customers shop, queue and pay where the view has a till, staff work there.

    Every minute is busy for its first 42 s and empty for the rest; a shorter scene is shared out likewise.
    """
    random = np.random.default_rng(seed)
    cycle_s = min(_CYCLE_S, seconds)
    visits: list[Visit] = []
    start_s = 0.0
    while start_s < seconds:
        busy = _till_stretch if view.till is not None else _aisle_stretch
        visits += busy(view, random, start_s + 0.5, start_s + cycle_s * _BUSY_SHARE, len(visits))
        start_s += cycle_s
    return Scene(view, tuple(visits), light or Light(), seed=seed)


def crossing_scene() -> Scene:
    """Six seconds with one customer always in the picture, who crosses it and picks something up half way."""
    steps: tuple[Step, ...] = (
        Walk((4.8, 4.6), Activity.ENTERING, speed_mps=1.5),
        Handle(Action.PICKUP, "nuts", 1.6),
        Walk((9.0, 4.6), speed_mps=1.5),
    )
    look = Look(_SHIRTS[0], _TROUSERS[0], _HAIR[0], _SKIN[0])
    return Scene(AISLE, (Visit("customer-1", Role.CUSTOMER, look, 0.0, (2.0, 4.6), steps),))


@dataclass(slots=True)
class _Itinerary:
    """A visit under construction: keeps track of place and time."""

    place: Place
    start_s: float
    now_s: float = 0.0
    steps: list[Step] = field(default_factory=list)
    origin: Place = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.origin, self.now_s = self.place, self.start_s

    def then(self, step: Step) -> None:
        """Adds a step."""
        self.steps.append(step)
        visit = self.visit("", Role.CUSTOMER, Look(_SHIRTS[0], _TROUSERS[0], _HAIR[0], _SKIN[0]), 1.7)
        self.now_s = Timeline(visit).end_s

    def visit(self, person: str, role: Role, look: Look, height_m: float) -> Visit:
        """The visit so far."""
        return Visit(person, role, look, self.start_s, self.origin, tuple(self.steps), height_m)


def _aisle_stretch(view: View, random: np.random.Generator, start_s: float, end_s: float, count: int) -> list[Visit]:
    """Customers come one after the other as long as they can be gone again before the end."""
    visits: list[Visit] = []
    arrival_s = start_s
    while arrival_s < end_s:
        for wants in (2, 1, 0):
            itinerary = _shopping(view, random, arrival_s, wants)
            itinerary.then(Walk(_near(view.exit, random), Activity.LEAVING))
            if itinerary.now_s <= end_s:
                visits.append(_customer(itinerary, random, count + len(visits)))
                break
        arrival_s += random.uniform(*_ARRIVAL_GAP_S)
    return visits


def _till_stretch(view: View, random: np.random.Generator, start_s: float, end_s: float, count: int) -> list[Visit]:
    """Customers queue and pay in the order in which they come; one of the staff is at the till meanwhile."""
    assert view.till is not None
    assert view.behind_till is not None
    visits: list[Visit] = []
    served_until_s: list[float] = []  # when each customer so far leaves the till, in order
    arrival_s = start_s + 1.0
    while arrival_s < end_s:
        itinerary = _shopping(view, random, arrival_s, int(random.integers(0, 2)))
        _queue_up(view, itinerary, served_until_s)
        itinerary.then(Stay(random.uniform(4, 6), Activity.PAYING))
        served_s = itinerary.now_s
        itinerary.then(Walk((view.till[0] - 1.2, view.exit[1])))
        itinerary.then(Walk(_near(view.exit, random), Activity.LEAVING))
        if itinerary.now_s > end_s:
            break
        served_until_s.append(served_s)
        visits.append(_customer(itinerary, random, count + len(visits)))
        arrival_s += random.uniform(*_ARRIVAL_GAP_S) / 2
    staff = _Itinerary((view.room_width_m + 1.0, view.behind_till[1]), start_s)
    staff.then(Walk(view.behind_till))
    staff.then(Stay(max(1.0, end_s - 4.0 - staff.now_s), Activity.WORKING))
    staff.then(Walk(staff.origin, Activity.LEAVING))
    look = Look(_STAFF_SHIRT, _TROUSERS[1], _pick(_HAIR, random), _pick(_SKIN, random))
    return [staff.visit(f"staff-{count + len(visits) + 1}", Role.STAFF, look, 1.75), *visits]


def _shopping(view: View, random: np.random.Generator, arrival_s: float, wants: int) -> _Itinerary:
    """Comes in and visits as many displays as wanted; each product is looked at, taken, and often put back."""
    itinerary = _Itinerary(_near(view.entrance, random), arrival_s)
    itinerary.then(Walk(_near(view.inside, random), Activity.ENTERING))
    for number in random.permutation(len(view.displays))[:wants]:
        display = view.displays[number]
        itinerary.then(Walk(_near(display.place, random)))
        itinerary.then(Stay(random.uniform(1.5, 3), Activity.BROWSING))
        itinerary.then(Handle(Action.PICKUP, display.product))
        if random.random() < 0.5:
            itinerary.then(Stay(random.uniform(1, 2), Activity.STANDING))
            itinerary.then(Handle(Action.PUTBACK, display.product))
    return itinerary


def _queue_up(view: View, itinerary: _Itinerary, served_until_s: list[float]) -> None:
    """Goes to the end of the queue and moves up whenever the till becomes free, until at the till."""
    assert view.till is not None
    ahead = [until_s for until_s in served_until_s if until_s > itinerary.now_s]
    slots = (view.till, *view.queue)
    slot = min(len(ahead), len(view.queue))
    itinerary.then(Walk(slots[slot]))
    for number, until_s in enumerate(ahead):
        leaves_s = until_s + _REACTION_S
        if leaves_s > itinerary.now_s:
            itinerary.then(Stay(leaves_s - itinerary.now_s, Activity.QUEUEING))
        next_slot = min(slot, len(ahead) - number - 1)
        if next_slot < slot:
            itinerary.then(Walk(slots[next_slot], Activity.QUEUEING if next_slot else Activity.WALKING))
            slot = next_slot


def _customer(itinerary: _Itinerary, random: np.random.Generator, before: int) -> Visit:
    look = Look(*(_pick(colours, random) for colours in (_SHIRTS, _TROUSERS, _HAIR, _SKIN)))
    return itinerary.visit(f"customer-{before + 1}", Role.CUSTOMER, look, random.uniform(1.58, 1.88))


def _near(place: Place, random: np.random.Generator) -> Place:
    return place[0] + random.uniform(-0.15, 0.15), place[1] + random.uniform(-0.1, 0.1)


def _pick(colours: tuple[Colour, ...], random: np.random.Generator) -> Colour:
    return colours[random.integers(len(colours))]
