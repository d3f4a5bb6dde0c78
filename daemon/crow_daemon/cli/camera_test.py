"""`crow-daemon camera test`: what is right and what is wrong with a camera."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from crow_daemon.cli.camera_options import given_camera, source_options, vendor_options
from crow_daemon.cli.camera_view import print_probe, probe_json
from crow_daemon.cli.context import CameraContext
from crow_daemon.registry.camera import CaptureMode, GateMode, ReaderChoice
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind

PROBE_TIMEOUT_S = 20.0
EVERY_PICTURE_MS = 33


@click.command()
@click.argument("camera_id", metavar="[ID]", required=False)
@source_options
@vendor_options
@click.option("--snapshot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture to this JPEG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a failure too.")
@click.pass_obj
def test(context: CameraContext, /, camera_id: str | None, snapshot: Path | None, as_json: bool, **given: Any) -> None:
    """Connects, logs in and looks at some pictures.

    Takes a camera by its ID, or one that is not added yet by its --url or --file. The exit code is 0 when pictures
    came, else 1.
    """
    from crow_daemon.capture.choice import StreamMemory  # noqa: PLC0415
    from crow_daemon.capture.chosen_source import source_of  # noqa: PLC0415
    from crow_daemon.capture.probe import probe  # noqa: PLC0415 — loads libav, which the other commands do without

    tried, credentials = given_camera(context, camera_id, given)
    # With every picture wanted, no short cut over keyframes is taken and the frame rate can be measured.
    whole = replace(
        tried, sample_interval_ms=EVERY_PICTURE_MS, mode=CaptureMode.DECODE, reader=ReaderChoice.PYAV, gate=GateMode.OFF
    )
    memory = StreamMemory(whole)
    source = source_of(whole, credentials, SystemClock(), memory)
    try:
        seen = probe(tried, source, memory.rhythm, SystemClock(), PROBE_TIMEOUT_S)
        if snapshot is not None:
            _write(snapshot, seen.snapshot_jpeg)
    except CrowError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "code": error.code, "message": error.message}, indent=2))
        else:
            click.echo(f"failed: {error.message}", err=True)
        raise SystemExit(1) from None  # whatever its kind: the question was whether the camera works
    if as_json:
        click.echo(json.dumps({"ok": True, **probe_json(seen)}, indent=2))
    else:
        print_probe(seen)


def _write(path: Path, jpeg: bytes) -> None:
    try:
        path.write_bytes(jpeg)
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "snapshot_failed", f"cannot write {path}: {error.strerror}") from None
