"""`crow-receiver camera`: the cameras that the receiver knows, and how long their pictures are kept."""

import json

import click

from crow_receiver.cli.camera_argument import CameraArgument
from crow_receiver.cli.context import Context
from crow_receiver.cli.table import echo_table
from crow_receiver.store.pictures import PictureKeep, picture_keeps, set_picture_keep
from crow_shared.database import transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

_MOST_HOURS = 8760


@click.group()
def camera() -> None:
    """Look at the cameras, and say how long the pictures of one are kept."""


@camera.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_cameras(context: Context, as_json: bool) -> None:
    """One line per camera, with the hours for which its pictures are kept."""
    with context.database() as db:
        keeps = picture_keeps(db, context.settings.retention.pictures_h)
    if as_json:
        rows = [{"camera": str(keep.camera), "pictures_h": keep.hours, "own": keep.own} for keep in keeps]
        click.echo(json.dumps(rows, indent=2))
    else:
        echo_table(["camera", "pictures_h", "said"], [_row(keep) for keep in keeps])


def _row(keep: PictureKeep) -> list[str]:
    return [str(keep.camera), f"{keep.hours:g}", "for this camera" if keep.own else "by the settings"]


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


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1
    if not 0 <= hours <= _MOST_HOURS:
        raise click.UsageError(f"HOURS is {text!r}; it can be 0 to {_MOST_HOURS}, or default")
    return hours
