"""`crow-daemon camera …`: the cameras of this daemon.

The group finds the registry through `ctx.obj.registry()`: the command above it puts an object with that method there.
Failures are raised as CrowError; the command above prints them in one line and picks the exit code.
"""

import json
from dataclasses import replace
from typing import Any

import click

from crow_daemon.cli.camera_discover import discover
from crow_daemon.cli.camera_import import export_cameras, import_cameras
from crow_daemon.cli.camera_options import (
    changed_source,
    default_gate,
    new_source,
    sampling,
    sampling_options,
    source_options,
    vendor_options,
)
from crow_daemon.cli.camera_test import test
from crow_daemon.cli.camera_view import camera_json, print_camera, print_table
from crow_daemon.cli.camera_zones import mask, zone
from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.login import password
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.vendors import PRESETS

_ADD_EXAMPLES = """\b
Examples:
  crow-daemon camera add till --url rtsp://192.168.1.64/stream1 --username shop
  crow-daemon camera add door --vendor hikvision --host 192.168.1.64 --channel 2 --username shop
  crow-daemon camera add monday --file till.mp4 --recorded-at 2026-11-22T09:00:00+01:00
"""


@click.group()
def camera() -> None:
    """Cameras and recordings that this daemon reads."""


camera.add_command(test)
camera.add_command(discover)
camera.add_command(import_cameras)
camera.add_command(export_cameras)
camera.add_command(zone)
camera.add_command(mask)


@camera.command(epilog=_ADD_EXAMPLES)
@click.argument("camera_id", metavar="ID")
@source_options
@vendor_options
@sampling_options
@click.option("--disabled", is_flag=True, help="Add it without starting it.")
@click.pass_obj
def add(context: CameraContext, /, camera_id: str, disabled: bool, **given: Any) -> None:
    """Adds a camera. A running daemon starts it within a second."""
    source = new_source(given)
    fields = {"gate": default_gate(source, given)} | sampling(given)
    fresh = Camera(camera_id, given["name"] or camera_id, source, enabled=not disabled, **fields)
    context.registry().add(fresh, password(given))
    click.echo(f"camera {camera_id} added")


@camera.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_cameras(context: CameraContext, /, as_json: bool) -> None:
    """Lists the cameras."""
    registry = context.registry()
    cameras = registry.cameras()
    if as_json:
        click.echo(json.dumps([camera_json(one, registry.credentials(one.id)) for one in cameras], indent=2))
    else:
        print_table(cameras)


@camera.command()
@click.argument("camera_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: CameraContext, /, camera_id: str, as_json: bool) -> None:
    """Shows one camera. Of a password, it says only whether there is one."""
    registry = context.registry()
    found = registry.get(camera_id)
    shown = camera_json(found, registry.credentials(camera_id))
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        print_camera(shown)


@camera.command()
@click.argument("camera_id", metavar="ID")
@source_options
@sampling_options
@click.option("--no-login", is_flag=True, help="Forget user name and password.")
@click.option("--no-sub-url", is_flag=True, help="Forget the smaller stream.")
@click.pass_obj
def edit(context: CameraContext, /, camera_id: str, no_login: bool, no_sub_url: bool, **given: Any) -> None:
    """Changes what is given and leaves the rest. A running daemon starts the camera anew."""
    if not (no_login or no_sub_url or any(value not in (None, False) for value in given.values())):
        raise click.UsageError("nothing to change is given")
    registry = context.registry()
    before = registry.get(camera_id)
    changed = sampling(given) | ({"name": given["name"]} if given["name"] is not None else {})
    source = changed_source(before.source, given, no_login=no_login, no_sub_url=no_sub_url)
    registry.update(replace(before, source=source, **changed), password(given))
    click.echo(f"camera {camera_id} changed")


@camera.command()
@click.argument("camera_id", metavar="ID")
@click.pass_obj
def remove(context: CameraContext, /, camera_id: str) -> None:
    """Forgets a camera and its password. Frames that were taken are still delivered."""
    context.registry().remove(camera_id)
    click.echo(f"camera {camera_id} removed")


@camera.command()
@click.argument("camera_id", metavar="ID")
@click.pass_obj
def enable(context: CameraContext, /, camera_id: str) -> None:
    """Starts a disabled camera. A recording goes on behind its last frame."""
    registry = context.registry()
    registry.update(replace(registry.get(camera_id), enabled=True))
    click.echo(f"camera {camera_id} enabled")


@camera.command()
@click.argument("camera_id", metavar="ID")
@click.pass_obj
def disable(context: CameraContext, /, camera_id: str) -> None:
    """Stops a camera and keeps its settings."""
    registry = context.registry()
    registry.update(replace(registry.get(camera_id), enabled=False))
    click.echo(f"camera {camera_id} disabled")


@camera.command()
def vendors() -> None:
    """Lists the makers whose URLs `camera add --vendor` fills in."""
    for vendor, preset in PRESETS.items():
        click.echo(f"{vendor:<10} {preset.maker}")
        for url in (preset.main, preset.sub):
            if url is not None:
                click.echo(f"{'':<10}   {url.replace(':02', '')}")
        if preset.note:
            click.echo(f"{'':<10}   {preset.note}")
