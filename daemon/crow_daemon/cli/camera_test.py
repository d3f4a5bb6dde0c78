"""`crow-daemon camera test`: what is right and what is wrong with a camera."""

import json
from pathlib import Path
from typing import Any

import click

from crow_daemon.cli.camera_options import given_camera, source_options, vendor_options
from crow_daemon.cli.camera_view import checkup_json, print_checkup
from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.picture_file import PICTURE_FILE, STDOUT, checked_picture_file, put_picture
from crow_shared.clock import SystemClock


@click.command()
@click.argument("camera_id", metavar="[ID]", required=False)
@source_options
@vendor_options
@click.option("--snapshot", type=PICTURE_FILE, help="Write a picture: FILE.jpg, FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a failure too.")
@click.pass_obj
def test(context: CameraContext, /, camera_id: str | None, snapshot: Path | None, as_json: bool, **given: Any) -> None:
    """Looks at a camera for some ten seconds and says what is right, what is wrong, and what to do about it.

    Takes a camera by its ID, or one that is not added yet by its --url, --vendor or --file. The exit code is 0 when
    pictures come as it is set, else 1.
    """
    from crow_daemon.checkup.checkup import check_camera  # noqa: PLC0415 — loads OpenCV

    if snapshot is not None:
        checked_picture_file(snapshot)
        if snapshot == STDOUT:
            raise click.UsageError("--snapshot needs a file: the result goes to standard output")
    camera, credentials = given_camera(context, camera_id, given)
    checkup = check_camera(camera, credentials, SystemClock())
    if as_json:
        click.echo(json.dumps(checkup_json(checkup), indent=2))
    else:
        print_checkup(checkup)
    if snapshot is not None and checkup.snapshot is not None:
        put_picture(snapshot, checkup.snapshot)
    if not checkup.ok:
        raise SystemExit(1)
