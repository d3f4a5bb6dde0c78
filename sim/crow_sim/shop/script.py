"""What happens in the shop: visits as lists of steps, resolved to what everybody does at every moment.

Positions are floor coordinates (x, y) in metres (see `camera.py`), times are seconds from the start of the scene.
"""

from dataclasses import dataclass
from math import dist

from crow_sim.shop.truth import Action, Activity, Movement, Role

Place = tuple[float, float]
Colour = tuple[int, int, int]  # blue, green, red

_REACH_S = 0.5  # for the arm to come up, and to go down again


@dataclass(frozen=True, slots=True)
class Walk:
    """Goes straight to a place."""

    to: Place
    activity: Activity = Activity.WALKING
    speed_mps: float = 1.2


@dataclass(frozen=True, slots=True)
class Stay:
    """Stands for a while."""

    seconds: float
    activity: Activity = Activity.STANDING


@dataclass(frozen=True, slots=True)
class Handle:
    """Stands and does something with a product; after a pick-up it is carried until put back or returned."""

    action: Action
    product: str
    seconds: float = 2.0


Step = Walk | Stay | Handle


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody wears."""

    shirt: Colour
    trousers: Colour
    hair: Colour
    skin: Colour


@dataclass(frozen=True, slots=True)
class Visit:
    """One person's time in the shop; who has done the last step is gone."""

    person: str
    role: Role
    look: Look
    start_s: float
    start: Place
    steps: tuple[Step, ...]
    height_m: float = 1.72


@dataclass(frozen=True, slots=True)
class Moment:
    """What one person does at one time.

    `walked_m` since the step began drives the gait; `reach` goes from 0 (arms down) to 1 (hand at the shelf).
    """

    visit: Visit
    place: Place
    activity: Activity
    movement: Movement
    action: Action | None
    product: str | None
    in_hand: bool
    walked_m: float
    reach: float


@dataclass(frozen=True, slots=True)
class _Leg:
    """One step with its times and ends."""

    start_s: float
    end_s: float
    origin: Place
    target: Place
    step: Step
    carried: str | None


class Timeline:
    """A visit whose steps have their times."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._legs: list[_Leg] = []
        time_s, place, carried = visit.start_s, visit.start, None
        for step in visit.steps:
            target = step.to if isinstance(step, Walk) else place
            lasts_s = dist(place, target) / step.speed_mps if isinstance(step, Walk) else step.seconds
            self._legs.append(_Leg(time_s, time_s + lasts_s, place, target, step, carried))
            time_s, place = time_s + lasts_s, target
            if isinstance(step, Handle):
                carried = _carried_after(step, carried)
        self.start_s = visit.start_s
        self.end_s = time_s

    def at(self, time_s: float) -> Moment | None:
        """What the person does, or None when not in the shop."""
        for leg in self._legs:
            if leg.start_s <= time_s < leg.end_s:
                return _moment(self._visit, leg, time_s)
        return None


def _carried_after(step: Handle, carried: str | None) -> str | None:
    if step.action is Action.PICKUP:
        return step.product
    return None if step.action in {Action.PUTBACK, Action.RETURN} else carried


def _moment(visit: Visit, leg: _Leg, time_s: float) -> Moment:
    since_s = time_s - leg.start_s
    share = since_s / (leg.end_s - leg.start_s)
    step = leg.step
    if isinstance(step, Walk):
        (x0, y0), (x1, y1) = leg.origin, leg.target
        return Moment(
            visit,
            (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share),
            step.activity,
            _movement(x1 - x0, y1 - y0),
            Action.CARRY if leg.carried else None,
            leg.carried,
            leg.carried is not None,
            since_s * step.speed_mps,
            0.0,
        )
    if isinstance(step, Stay):
        looks = step.activity is Activity.BROWSING and leg.carried is None
        action = Action.BROWSE if looks else Action.CARRY if leg.carried else None
        return Moment(
            visit, leg.target, step.activity, Movement.STILL, action, leg.carried, leg.carried is not None, 0.0, 0.0
        )
    reach = min(1.0, since_s / _REACH_S, (leg.end_s - time_s) / _REACH_S)
    taken = share > 0.5 if step.action is Action.PICKUP else share < 0.5
    in_hand = taken and step.action in {Action.PICKUP, Action.PUTBACK, Action.RETURN}
    return Moment(visit, leg.target, Activity.BROWSING, Movement.STILL, step.action, step.product, in_hand, 0.0, reach)


def _movement(right_m: float, away_m: float) -> Movement:
    if abs(right_m) >= abs(away_m):
        return Movement.RIGHT if right_m > 0 else Movement.LEFT
    return Movement.AWAY if away_m > 0 else Movement.TOWARDS
