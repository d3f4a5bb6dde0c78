"""`crow-receiver camera`: the cameras that the receiver knows, how they are described, how long pictures are kept."""

import json
from dataclasses import asdict
from typing import Any

import click

from crow_receiver.cli.camera_argument import CameraArgument
from crow_receiver.cli.context import Context
from crow_receiver.cli.table import echo_table
from crow_receiver.store import ledger
from crow_receiver.store.cameras import CameraRow, find, set_brief, set_engines
from crow_receiver.store.ledger import LedgerSums
from crow_receiver.store.pictures import PictureKeep, picture_keeps, set_picture_keep
from crow_receiver.vision.brief import NO_BRIEF, Brief, checked_brief
from crow_shared.clock import SystemClock
from crow_shared.database import transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey
from crow_shared.zones import ZoneKind

_MOST_HOURS = 8760


@click.group()
def camera() -> None:
    """Look at the cameras; say how long one's pictures are kept, which engines describe it, and what they are told."""


@camera.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_cameras(context: Context, as_json: bool) -> None:
    """One line per camera: how long its pictures are kept, zones, engines, and how much was seen in the last hour."""
    with context.database() as db:
        keeps = picture_keeps(db, context.settings.retention.pictures_h)
        known = {row.id: (row, sums) for row, sums in ledger.last_hour(db, SystemClock().now_us())}
    cameras = [(keep, *known[keep.row_id]) for keep in keeps]
    if as_json:
        click.echo(json.dumps([_as_json(*camera) for camera in cameras], indent=2))
    else:
        columns = ["camera", "name", "pictures_h", "said", "zones", "engines", "brief", "seen", "alerts"]
        echo_table(columns, [_row(*camera) for camera in cameras])


def _as_json(keep: PictureKeep, row: CameraRow, hour: LedgerSums) -> dict[str, Any]:
    zones = [asdict(zone) for zone in row.zones]
    kept = {"camera": str(keep.camera), "name": row.name, "pictures_h": keep.hours, "own": keep.own, "zones": zones}
    kept |= {"engines": list(row.engines), "brief": asdict(row.brief)}
    return kept | {"seen_percent": hour.seen_percent, "alerts": sorted(hour.alerts)}


def _row(keep: PictureKeep, row: CameraRow, hour: LedgerSums) -> list[str]:
    zones = ", ".join(zone.name if zone.kind is ZoneKind.AREA else f"{zone.name} (line)" for zone in row.zones)
    said = "for this camera" if keep.own else "by the settings"
    kept = [str(keep.camera), row.name, f"{keep.hours:g}", said, zones or "none: left, centre, right"]
    kept += [", ".join(row.engines) or "by the settings", _in_short(row.brief)]
    seen = "" if hour.seen_percent is None else f"{hour.seen_percent:.1f} %"
    return [*kept, seen, ", ".join(sorted(hour.alerts))]


@camera.command()
@click.argument("key", metavar="ORG/SITE/CAMERA", type=CameraArgument())
@click.argument("hours", metavar="HOURS|default")
@click.pass_obj
def retention(context: Context, key: CameraKey, hours: str) -> None:
    """Say for how many hours a camera's pictures are kept.

    0: they are gone as soon as they are analysed. default: as `[retention] pictures_h` says. A running receiver follows
    within seconds when it is under an hour, else within minutes.
    """
    wanted = None if hours == "default" else _hours(hours)
    with context.database() as db, transaction(db):
        if not set_picture_keep(db, key, wanted):
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {key}")
    said = f"for {wanted:g} hours" if wanted else "until they are analysed" if wanted == 0 else "as the settings say"
    click.echo(f"pictures of {key} are kept {said}")


@camera.command()
@click.argument("key", metavar="ORG/SITE/CAMERA", type=CameraArgument())
@click.argument("engines", metavar="ENGINE[,ENGINE…]|default")
@click.pass_obj
def engine(context: Context, key: CameraKey, engines: str) -> None:
    """Say which engines describe a camera's frames, in the order in which they are tried.

    They are some of those that `[vision] engine` names; default: as it says. A running receiver follows with the next
    frame.
    """
    wanted = [] if engines == "default" else _engines(engines, context)
    with context.database() as db, transaction(db):
        if not set_engines(db, key, wanted):
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {key}")
    click.echo(f"frames of {key} are described by {', '.join(wanted) or 'the engines of the settings'}")


@camera.command()
@click.argument("key", metavar="ORG/SITE/CAMERA", type=CameraArgument())
@click.option("--context", "about", help='What it looks at: "over the till, the shelf behind it is the staff\'s".')
@click.option("--product", "products", multiple=True, help="One to sort interactions into; may be given 16 times.")
@click.option("--language", help='Of descriptions: "German", "pt-BR". Default: English.')
@click.option("--clear", is_flag=True, help="Forget what was said before; without it, what is not given stays.")
@click.pass_obj
def brief(
    context: Context, key: CameraKey, about: str | None, products: tuple[str, ...], language: str | None, clear: bool
) -> None:
    """Say what models are told of a camera, and look at it.

    Products given replace those that were listed. A running receiver follows with the next frame. classic is told
    nothing.
    """
    with context.database() as db, transaction(db):
        row = find(db, key)
        if row is None:
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {key}")
        was = NO_BRIEF if clear else row.brief
        told = checked_brief(
            was.context if about is None else about.strip(),
            tuple(product.strip() for product in products) or was.products,
            was.language if language is None else language.strip(),
        )
        set_brief(db, key, told)
    click.echo(f"context   {told.context or '-'}")
    click.echo(f"products  {', '.join(told.products) or '-'}")
    click.echo(f"language  {told.language or 'English'}")


def _in_short(brief: Brief) -> str:
    """What of a brief is given, in a few words; `camera brief` shows it."""
    products = f"{len(brief.products)} product{'s' if len(brief.products) > 1 else ''}" if brief.products else ""
    return ", ".join(filter(None, ["context" if brief.context else "", products, brief.language])) or "none"


def _engines(text: str, context: Context) -> list[str]:
    """Checks names against the settings: the receiver runs no other engines."""
    named = context.settings.vision.engine
    known = [name for name in named if name != "auto"] + ["llama", "classic"] * ("auto" in named)
    wanted = [name.strip() for name in text.split(",")]
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(known):
        raise click.UsageError(f"ENGINE is {text!r}; it can be of {', '.join(dict.fromkeys(known))}, each once")
    return wanted


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1
    if not 0 <= hours <= _MOST_HOURS:
        raise click.UsageError(f"HOURS is {text!r}; it can be 0 to {_MOST_HOURS}, or default")
    return hours
