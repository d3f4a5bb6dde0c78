"""A shop rendered as a camera sees it, with the truth about every picture."""

from crow_sim.shop.clip import small_clip, write_clip
from crow_sim.shop.plan import crossing_scene, planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.scene import Light, Scene
from crow_sim.shop.truth import FrameTruth
from crow_sim.shop.view import AISLE, TILL, VIEWS, View

__all__ = [
    "AISLE",
    "TILL",
    "VIEWS",
    "FrameTruth",
    "Light",
    "Renderer",
    "Scene",
    "View",
    "crossing_scene",
    "planned_scene",
    "small_clip",
    "write_clip",
]
