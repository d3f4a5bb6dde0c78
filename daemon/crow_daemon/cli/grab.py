"""`crow-daemon grab` and `crow-daemon mosaic`: pictures of cameras, now."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crow_daemon.cli.camera_options import given_camera, source_options, vendor_options
from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.picture_file import PICTURE_FILE, STDOUT, checked_picture_file, put_picture
from crow_daemon.registry.camera import RtspAddress
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import TimeSource

if TYPE_CHECKING:
    from crow_daemon.stills.still import Still  # loads OpenCV, which the other commands do without

_AT_ONCE = 16
_TAKEN_BY = {
    TimeSource.CAMERA: "by the camera's clock",
    TimeSource.ARRIVAL: "by this machine's clock",
    TimeSource.RECORDING: "by the recording's",
}
_GRAB_EXAMPLES = """\b
Examples:
  crow-daemon grab till --out till.jpg
  crow-daemon grab --vendor hikvision --host 192.168.1.64 --username shop --out door.jpg
"""


@click.command(epilog=_GRAB_EXAMPLES)
@click.argument("camera_id", metavar="[ID]", required=False)
@source_options
@vendor_options
@click.option(
    "--out", type=PICTURE_FILE, required=True, help="The picture: FILE.jpg, FILE.png, or - for standard output."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, 120), default=15, show_default=True, help="Seconds to wait."
)
@click.pass_obj
def grab(context: CameraContext, /, camera_id: str | None, out: Path, timeout_s: float, **given: Any) -> None:
    """Takes one picture of a camera, in its full size.

    Takes a camera by its ID, or one that is not added yet by its --url, --vendor or --file. Masks are painted over; of
    a camera whose people are blurred the whole picture is. The exit code is 0 when a picture came, else 1.
    """
    from crow_daemon.stills.still import take_still  # noqa: PLC0415 — loads OpenCV

    checked_picture_file(out)
    camera, credentials = given_camera(context, camera_id, given)
    try:
        still = take_still(camera, credentials, SystemClock(), timeout_s)
    except CrowError as error:
        click.echo(f"failed: {error.message}", err=True)
        raise SystemExit(1) from None  # whatever its kind: the question was whether a picture comes
    put_picture(out, still.bgr)
    click.echo(f"{out}: {_told(still)}", err=out == STDOUT)


@click.command()
@click.argument("camera_ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--out", type=PICTURE_FILE, required=True, help="The picture: FILE.jpg, FILE.png, or - for standard output."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, 120), default=15, show_default=True, help="Seconds to wait."
)
@click.option(
    "--tile-width", type=click.IntRange(160, 1920), default=640, show_default=True, help="Pixels for each camera."
)
@click.pass_obj
def mosaic(
    context: CameraContext, /, camera_ids: tuple[str, ...], out: Path, timeout_s: float, tile_width: int
) -> None:
    """Takes one picture of all enabled live cameras, or of those that are named.

    Each stands in its place (`camera edit ID --grid ROW COLUMN`), else in a free one; one that gives no picture is
    shown with the reason. The exit code is 0 when all gave one, else 1.
    """
    from crow_daemon.stills.mosaic import Tile, checked_size, compose  # noqa: PLC0415 — load OpenCV
    from crow_daemon.stills.still import take_still  # noqa: PLC0415

    checked_picture_file(out)
    registry = context.registry()
    if camera_ids:
        cameras = [registry.get(camera_id) for camera_id in dict.fromkeys(camera_ids)]
    else:
        cameras = [one for one in registry.cameras() if one.enabled and isinstance(one.source, RtspAddress)]
    if not cameras:
        raise CrowError(Kind.INVALID, "no_cameras", "there is no enabled live camera; see: crow-daemon camera list")
    checked_size(cameras, tile_width)
    asked = [(camera, registry.credentials(camera.id)) for camera in cameras]

    def seen(number: int) -> Tile:
        camera, credentials = asked[number]
        try:
            return Tile(camera, take_still(camera, credentials, SystemClock(), timeout_s))
        except CrowError as error:
            return Tile(camera, error)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="still") as pool:
        tiles = list(pool.map(seen, range(len(asked))))
    put_picture(out, compose(tiles, tile_width))
    failed = [(tile.camera.id, tile.seen.message) for tile in tiles if isinstance(tile.seen, CrowError)]
    click.echo(f"{out}: {len(tiles) - len(failed)} of {len(tiles)} cameras", err=out == STDOUT)
    for camera_id, message in failed:
        click.echo(f"{camera_id}: {message}", err=True)
    if failed:
        raise SystemExit(1)


def _told(still: "Still") -> str:
    height, width = still.bgr.shape[:2]
    taken = datetime.fromtimestamp(still.capture_us / 1_000_000).astimezone().isoformat(" ", "milliseconds")
    return f"{width}x{height} {still.stream.codec}, taken {taken} {_TAKEN_BY[still.time_source]}"
