"""`crow-daemon camera import` and `camera export`: cameras from and to the original tool's file."""

import sys
from pathlib import Path

import click

from crow_daemon.cli.context import DaemonContext
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.store_config import MAX_FILE_BYTES, Said, StoreCamera, read_store_config, write_store_config
from crow_shared.errors import CrowError, Kind

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("import")
@click.argument("path", metavar="STORE_YAML", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.pass_obj
def import_cameras(context: DaemonContext, /, path: Path, dry_run: bool) -> None:
    """Takes over the cameras of a configuration of the original cctv tool.

    Says of every field what it becomes. Done again, it changes nothing. When a field is wrong, no camera is taken over.
    """
    config = read_store_config(_text(path))
    if config.store_id is not None:
        site_id = context.settings.site_id
        fits = "as here" if config.store_id == site_id else f"ignored: site_id of this daemon's settings is {site_id!r}"
        click.echo(f"store_id {config.store_id[:80]!r}: {fits}")
    _echo(config.said)
    wrong = sum(said.wrong for said in config.said)
    if wrong:
        raise CrowError(Kind.INVALID, "bad_store_config", f"{wrong} fields are wrong; no camera was taken over")
    registry = context.registry()
    known = {camera.id: camera for camera in registry.cameras()}
    merged = [(given, given.merged(known.get(given.id))) for given in config.cameras]
    for given, camera in merged:
        password = given.credentials.password if given.credentials else None
        if camera.id in known and camera == known[camera.id] and not _has_new_login(registry, given):
            click.echo(f"camera {camera.id} is so already")
            continue
        done, store = ("changed", registry.update) if camera.id in known else ("added", registry.add)
        if not dry_run:
            store(camera, password)
        click.echo(f"camera {camera.id} {'would be ' if dry_run else ''}{done}")


@click.command("export")
@click.pass_obj
def export_cameras(context: DaemonContext, /) -> None:
    """Writes the live cameras as a configuration of the original cctv tool to standard output, without logins."""
    text, said = write_store_config(context.settings.site_id, context.registry().cameras())
    click.echo(text, nl=False)
    for one in said:
        click.echo(f"{one.place}: {one.text}", err=True)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CrowError(Kind.INVALID, "bad_store_config", f"{path} is no text file in UTF-8") from None


def _has_new_login(registry: Registry, given: StoreCamera) -> bool:
    return given.credentials is not None and registry.credentials(given.id) != given.credentials


def _echo(said: list[Said]) -> None:
    for one in said:
        click.echo(f"{one.place}: {'WRONG: ' if one.wrong else ''}{one.text}", file=sys.stderr if one.wrong else None)
