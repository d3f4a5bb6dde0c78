"""`crow-daemon camera zone …` and `camera mask …`: named parts of a picture, and parts that nobody is to see."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.picture_file import PICTURE_FILE, checked_picture_file, put_picture
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.registry import Registry
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import Point, Polygon, Zone, ZoneKind, checked_polygon

_PATIENCE_S = 15.0
_ZONE_EXAMPLES = """\b
Points are x,y from the upper left corner, as shares of the picture (0.25,0.5) or in percent (25%,50%).
Examples:
  crow-daemon camera zone add till "Checkout" --area "10%,40% 55%,40% 55%,95% 10%,95%"
  crow-daemon camera zone add door "Front entrance" --line "0.2,0.9 0.8,0.9"
"""


_snapshot_option = click.option(
    "--snapshot",
    type=PICTURE_FILE,
    help="Take a picture and write it with the zones and masks drawn in: FILE.jpg, FILE.png.",
)


class PointsArgument(click.ParamType[Polygon]):
    """Points in the text form of the examples."""

    name = "POINTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Polygon:
        """The points that `value` names."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(_point(word) for word in str(value).split())
        except ValueError:
            self.fail(f"{value!r} are no points; example: '0.1,0.4 0.5,0.4 0.5,0.9' or '10%,40% 50%,40%'", param, ctx)


def _point(word: str) -> Point:
    x, y = word.split(",")
    return _share(x), _share(y)


def _share(text: str) -> float:
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


@click.group()
def zone() -> None:
    """Named areas and lines of a camera's picture, that analyses speak of."""


@zone.command("add", epilog=_ZONE_EXAMPLES)
@click.argument("camera_id", metavar="ID")
@click.argument("name", metavar="NAME")
@click.option("--area", type=PointsArgument(), help="The corners of an area, three or more.")
@click.option("--line", type=PointsArgument(), help="The two ends of a line that people cross.")
@_snapshot_option
@click.pass_obj
def add_zone(
    context: CameraContext,
    /,
    camera_id: str,
    name: str,
    area: Polygon | None,
    line: Polygon | None,
    snapshot: Path | None,
) -> None:
    """Adds a zone. A running daemon tells the receiver within seconds."""
    if (area is None) == (line is None):
        raise click.UsageError("give either --area or --line")
    kind, points = (ZoneKind.AREA, area) if area is not None else (ZoneKind.LINE, line)
    registry, camera = _camera(context, camera_id)
    registry.update(replace(camera, zones=(*camera.zones, Zone(name, kind, points or ()))))
    click.echo(f"zone {name!r} added to camera {camera_id}")
    _draw(registry, camera_id, snapshot)


@zone.command("list")
@click.argument("camera_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_snapshot_option
@click.pass_obj
def list_zones(context: CameraContext, /, camera_id: str, as_json: bool, snapshot: Path | None) -> None:
    """Lists the zones of a camera."""
    registry, camera = _camera(context, camera_id)
    _draw(registry, camera_id, snapshot)
    if as_json:
        shown = [{"name": one.name, "kind": one.kind, "points": one.points} for one in camera.zones]
        click.echo(json.dumps(shown, indent=2))
        return
    for one in camera.zones:
        click.echo(f"{one.name:<24} {one.kind:<5} {_shown(one.points)}")
    if not camera.zones:
        click.echo(f"no zones yet; add one with: crow-daemon camera zone add {camera_id} NAME --area POINTS")


@zone.command("remove")
@click.argument("camera_id", metavar="ID")
@click.argument("name", metavar="NAME")
@click.pass_obj
def remove_zone(context: CameraContext, /, camera_id: str, name: str) -> None:
    """Removes a zone."""
    registry, camera = _camera(context, camera_id)
    left = tuple(one for one in camera.zones if one.name.casefold() != name.casefold())
    if len(left) == len(camera.zones):
        known = ", ".join(repr(one.name) for one in camera.zones) or "none"
        raise CrowError(
            Kind.NOT_FOUND, "zone_unknown", f"camera {camera_id} has no zone {name[:80]!r}; its zones: {known}"
        )
    registry.update(replace(camera, zones=left))
    click.echo(f"zone {name!r} removed from camera {camera_id}")


@click.group()
def mask() -> None:
    """Areas of a camera's picture that are painted over before it is stored anywhere."""


@mask.command("add")
@click.argument("camera_id", metavar="ID")
@click.option("--area", type=PointsArgument(), required=True, help="The corners of the area, three or more.")
@_snapshot_option
@click.pass_obj
def add_mask(context: CameraContext, /, camera_id: str, area: Polygon, snapshot: Path | None) -> None:
    """Adds a mask. A running daemon paints it from the next connection on, within seconds."""
    registry, camera = _camera(context, camera_id)
    registry.update(replace(camera, masks=(*camera.masks, checked_polygon(area))))
    click.echo(f"mask {len(camera.masks) + 1} added to camera {camera_id}")
    _draw(registry, camera_id, snapshot)


@mask.command("list")
@click.argument("camera_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_snapshot_option
@click.pass_obj
def list_masks(context: CameraContext, /, camera_id: str, as_json: bool, snapshot: Path | None) -> None:
    """Lists the masks of a camera, with the numbers that `mask remove` takes."""
    registry, camera = _camera(context, camera_id)
    _draw(registry, camera_id, snapshot)
    if as_json:
        click.echo(json.dumps(camera.masks, indent=2))
        return
    for number, points in enumerate(camera.masks, start=1):
        click.echo(f"{number:<4} {_shown(points)}")
    if not camera.masks:
        click.echo(f"no masks; add one with: crow-daemon camera mask add {camera_id} --area POINTS")


@mask.command("remove")
@click.argument("camera_id", metavar="ID")
@click.argument("number", type=click.IntRange(min=1), metavar="NUMBER")
@click.pass_obj
def remove_mask(context: CameraContext, /, camera_id: str, number: int) -> None:
    """Removes a mask by its number; those behind it move up."""
    registry, camera = _camera(context, camera_id)
    if number > len(camera.masks):
        raise CrowError(
            Kind.NOT_FOUND, "mask_unknown", f"camera {camera_id} has {len(camera.masks)} masks, no number {number}"
        )
    registry.update(replace(camera, masks=(*camera.masks[: number - 1], *camera.masks[number:])))
    click.echo(f"mask {number} removed from camera {camera_id}")


def _camera(context: CameraContext, camera_id: str) -> tuple[Registry, Camera]:
    registry = context.registry()
    return registry, registry.get(camera_id)


def _draw(registry: Registry, camera_id: str, snapshot: Path | None) -> None:
    """Writes a fresh picture with the zones and masks, if one is wanted. Raises CrowError."""
    if snapshot is None:
        return
    from crow_daemon.stills.overlay import with_zones  # noqa: PLC0415 — load OpenCV
    from crow_daemon.stills.still import take_still  # noqa: PLC0415

    checked_picture_file(snapshot)
    camera = registry.get(camera_id)
    still = take_still(camera, registry.credentials(camera_id), SystemClock(), _PATIENCE_S)
    put_picture(snapshot, with_zones(still.bgr, camera))
    click.echo(f"{snapshot} shows camera {camera_id} with its zones and masks", err=True)


def _shown(points: Polygon) -> str:
    return " ".join(f"{x * 100:g}%,{y * 100:g}%" for x, y in points)
