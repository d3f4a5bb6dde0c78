"""The two places where a camera hangs: what stands there, and where people go."""

from dataclasses import dataclass
from enum import Enum, auto

from crow_sim.shop.camera import Camera
from crow_sim.shop.script import Place


class Surface(Enum):
    """What the front of a piece of furniture looks like."""

    SHELF = auto()
    FRIDGE = auto()
    COUNTER = auto()
    DOOR = auto()


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of furniture: a box on the floor, in metres; people behind it are hidden by it."""

    left_m: float
    right_m: float
    front_m: float
    back_m: float
    height_m: float
    surface: Surface


@dataclass(frozen=True, slots=True)
class Display:
    """Where somebody stands to take one product."""

    place: Place
    product: str


@dataclass(frozen=True, slots=True)
class View:
    """One camera's part of the shop.

    `zones` are named from left to right in equal vertical parts of the picture; somebody is in the zone of the feet.
    `entrance` and `exit` lie outside the picture. `queue` runs from the till backwards.
    """

    name: str
    camera: Camera
    room_width_m: float
    room_depth_m: float
    zones: tuple[str, ...]
    blocks: tuple[Block, ...]
    entrance: Place
    exit: Place
    inside: Place
    displays: tuple[Display, ...]
    till: Place | None = None
    behind_till: Place | None = None
    queue: tuple[Place, ...] = ()

    def zone_at(self, column: float, width: int) -> str:
        """The zone of a column of pixels; what lies outside the picture counts to the nearest zone."""
        number = int(column / width * len(self.zones))
        return self.zones[min(max(number, 0), len(self.zones) - 1)]


AISLE = View(
    name="aisle",
    camera=Camera(x_m=5.0, height_m=2.7, tilt_deg=22, focal=0.75),
    room_width_m=10.0,
    room_depth_m=8.0,
    zones=("Front Entrance", "Snacks", "Drinks"),
    blocks=(
        Block(0.4, 2.6, 7.9, 8.0, 2.2, Surface.DOOR),
        Block(3.2, 6.5, 7.4, 8.0, 1.9, Surface.SHELF),
        Block(6.8, 9.6, 7.3, 8.0, 2.05, Surface.FRIDGE),
        Block(4.1, 5.9, 5.2, 5.8, 0.9, Surface.SHELF),
    ),
    entrance=(-0.4, 6.0),
    exit=(-0.2, 4.6),
    inside=(3.0, 6.2),
    displays=(
        Display((3.9, 6.9), "crisps"),
        Display((4.8, 6.9), "chocolate"),
        Display((5.7, 6.9), "biscuits"),
        Display((7.3, 6.8), "cola"),
        Display((8.2, 6.8), "water"),
        Display((4.7, 4.7), "nuts"),
    ),
)

TILL = View(
    name="till",
    camera=Camera(x_m=4.0, height_m=2.8, tilt_deg=26, focal=0.75),
    room_width_m=8.0,
    room_depth_m=7.0,
    zones=("Front Entrance", "Queue", "Checkout"),
    blocks=(
        Block(0.5, 2.0, 6.9, 7.0, 2.2, Surface.DOOR),
        Block(2.4, 4.6, 6.5, 7.0, 1.6, Surface.SHELF),
        Block(5.2, 7.9, 6.6, 7.0, 2.0, Surface.SHELF),
        Block(5.1, 7.6, 4.9, 5.4, 1.0, Surface.COUNTER),
    ),
    entrance=(-0.8, 5.6),
    exit=(-0.6, 3.6),
    inside=(2.2, 5.4),
    displays=(Display((3.0, 6.0), "chewing gum"), Display((3.9, 6.0), "magazine")),
    till=(5.8, 4.45),
    behind_till=(6.2, 5.9),
    queue=((5.0, 4.4), (4.3, 4.4), (3.6, 4.4), (2.9, 4.4)),
)

VIEWS = {view.name: view for view in (AISLE, TILL)}
