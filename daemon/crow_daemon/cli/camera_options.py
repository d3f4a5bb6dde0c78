"""The options that describe a camera, and what they make of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.login import login, login_options
from crow_daemon.registry.camera import (
    GRID,
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
    Transport,
)
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_daemon.registry.vendors import Vendor, stream_urls
from crow_shared.cli import MomentArgument
from crow_shared.errors import CrowError, Kind

MAX_FPS = 30
MIN_FPS = 1 / 3600
CAMERA_ONLY = ("sub_url", "username", "password_stdin", "password_file", "transport")
_WITH_VENDOR = ("host", "channel", "token")

Command = TypeVar("Command", bound=Callable[..., Any])


def _checked_fps(_ctx: click.Context, _param: click.Parameter, fps: float | None) -> float | None:
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise click.BadParameter(f"{fps:g} samples a second; it is at most {MAX_FPS}, and at least one an hour")
    return fps


def sampling_options(command: Command) -> Command:
    """How a camera is sampled, gated and coded."""
    for option in reversed(
        (
            click.option("--name", help="How people call it; free text. Default: the id."),
            click.option(
                "--fps", type=float, callback=_checked_fps, help=f"Samples per second, at most {MAX_FPS}. Default: 1."
            ),
            click.option(
                "--gate",
                type=click.Choice([mode.value for mode in GateMode]),
                help="Which samples are sent: all (off), those in which something changed, or those with a person. "
                "Default: activity; off for a recording, and with --mode keyframe without a --sub-url.",
            ),
            click.option(
                "--heartbeat", "heartbeat_s", type=int, help="Seconds after which a gate sends anyway. Default: 60."
            ),
            click.option(
                "--motion-ttl",
                "motion_ttl_s",
                type=float,
                help="Seconds for which a gate goes on sending after activity ended. Default: 2.",
            ),
            click.option(
                "--pre-roll/--no-pre-roll",
                default=None,
                help="Whether a gate sends the sample before activity began as well. Default: it does.",
            ),
            click.option(
                "--mode",
                type=click.Choice([mode.value for mode in CaptureMode]),
                help="What is sent: the camera's own keyframes, decoded pictures as JPEG, or what is cheaper (auto). "
                "Default: auto.",
            ),
            click.option(
                "--reader",
                type=click.Choice([reader.value for reader in ReaderChoice]),
                help="What connects to the camera: the keyframe reader (direct), libav (pyav), or the cheaper of those "
                "that can (auto). Default: auto.",
            ),
            click.option(
                "--blur",
                type=click.Choice([blur.value for blur in Blur]),
                help="Make people unrecognisable before a picture is sent. Default: off.",
            ),
            click.option(
                "--grid",
                type=(click.IntRange(*GRID), click.IntRange(*GRID)),
                metavar="ROW COLUMN",
                help="The camera's place in a mosaic, counted from 0.",
            ),
            click.option("--jpeg-long-side", type=int, help="Pixels of the longer side of what is sent. Default: 896."),
            click.option("--jpeg-quality", type=int, help="30 to 100. Default: 85."),
        )
    ):
        command = option(command)
    return command


def source_options(command: Command) -> Command:
    """Where pictures come from."""
    for option in reversed(
        (
            click.option("--url", metavar="URL", help="rtsp:// or rtsps:// URL, without user name and password."),
            click.option("--sub-url", metavar="URL", help="The camera's smaller stream, for a gate to look at."),
            click.option(
                "--transport",
                type=click.Choice([transport.value for transport in Transport]),
                help="What RTP travels over. Default: tcp.",
            ),
            click.option("--file", "path", type=click.Path(path_type=Path), help="A recording instead of a camera."),
            click.option(
                "--recorded-at", type=MomentArgument(), help="When the recording began: 2026-11-22T09:00:00+01:00."
            ),
            login_options,
        )
    ):
        command = option(command)
    return command


def vendor_options(command: Command) -> Command:
    """The URLs of a well-known maker, in place of `--url`."""
    for option in reversed(
        (
            click.option(
                "--vendor",
                type=click.Choice([vendor.value for vendor in Vendor]),
                help="Fill in the URLs of this maker's devices; see `camera vendors`.",
            ),
            click.option("--host", metavar="HOST", help="With --vendor: name or address of the camera or recorder."),
            click.option("--channel", type=int, help="With --vendor: which camera of a recorder. Default: 1."),
            click.option("--token", help="With --vendor unifi: the word in the stream's address."),
        )
    ):
        command = option(command)
    return command


def sampling(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Camera that the sampling options set."""
    found = {key: given[key] for key in ("heartbeat_s", "motion_ttl_s", "pre_roll", "jpeg_long_side", "jpeg_quality")}
    for key, choices in (("gate", GateMode), ("mode", CaptureMode), ("reader", ReaderChoice), ("blur", Blur)):
        found[key] = None if given[key] is None else choices(given[key])
    found["grid_row"], found["grid_column"] = given["grid"] or (None, None)
    found["sample_interval_ms"] = None if given["fps"] is None else round(1000 / given["fps"])
    return {key: value for key, value in found.items() if value is not None}


def default_gate(source: RtspAddress | Recording, given: dict[str, Any]) -> GateMode:
    """What a fresh camera's gate is: docs/GATE.md shows that activity loses nothing that moves.

    A recording was chosen to be analysed, and keyframes that are passed on undecoded give a gate nothing to look at.
    """
    if isinstance(source, Recording):
        return GateMode.OFF
    sees_nothing = given["mode"] == CaptureMode.KEYFRAME and source.sub_url is None
    return GateMode.OFF if sees_nothing else GateMode.ACTIVITY


def new_source(given: dict[str, Any], *, recorded_at_needed: bool = True) -> RtspAddress | Recording:
    """What the source and vendor options describe. Raises CrowError(INVALID) and click.UsageError."""
    if sum(given[option] is not None for option in ("url", "vendor", "path")) != 1:
        raise click.UsageError("give one of --url, --vendor and --file")
    if given["path"] is not None:
        refuse(given, "a recording", *CAMERA_ONLY, *_WITH_VENDOR)
        if given["recorded_at"] is None and recorded_at_needed:
            raise click.UsageError("a recording needs --recorded-at: sessions are made by the time of capture")
        return Recording(recording_path(given["path"]), given["recorded_at"] or 0)
    refuse(given, "a camera", "recorded_at")
    if given["username"] is None:
        refuse(given, "a camera without --username", "password_stdin", "password_file")
    main, sub = _urls(given)
    return RtspAddress(main, given["username"], Transport(given["transport"] or Transport.TCP), _sub_url(given) or sub)


def changed_source(
    before: RtspAddress | Recording, given: dict[str, Any], *, no_login: bool, no_sub_url: bool
) -> RtspAddress | Recording:
    """The source with what the options give. Raises CrowError(INVALID) and click.UsageError."""
    match before:
        case Recording():
            refuse(given, "a recording", "url", *CAMERA_ONLY)
            path = recording_path(given["path"]) if given["path"] is not None else before.path
            return Recording(path, before.start_us if given["recorded_at"] is None else given["recorded_at"])
        case RtspAddress():
            refuse(given, "a camera", "path", "recorded_at")
            url = CameraUrl.parse(given["url"]) if given["url"] is not None else before.url
            username = None if no_login else given["username"] or before.username
            if username is None:
                refuse(given, "a camera without --username", "password_stdin", "password_file")
            transport = Transport(given["transport"] or before.transport)
            return RtspAddress(url, username, transport, None if no_sub_url else _sub_url(given) or before.sub_url)


def given_camera(
    context: CameraContext, camera_id: str | None, given: dict[str, Any]
) -> tuple[Camera, Credentials | None]:
    """A camera of the registry by its id, or one that is not added yet by the source and vendor options; its login.

    Raises CrowError(NOT_FOUND, INVALID) and click.UsageError.
    """
    if (camera_id is None) == (given["url"] is None and given["vendor"] is None and given["path"] is None):
        raise click.UsageError("give the ID of a camera, or --url, --vendor or --file")
    if camera_id is not None:
        refuse(given, "an ID", *CAMERA_ONLY, "recorded_at", *_WITH_VENDOR)
        registry = context.registry()
        return registry.get(camera_id), registry.credentials(camera_id)
    source = new_source(given, recorded_at_needed=False)
    return Camera("test", "test", source), login(given)


def refuse(given: dict[str, Any], what: str, *options: str) -> None:
    """Raises click.UsageError when one of these options is given: it would do nothing."""
    for option in options:
        if given.get(option):
            name = {"path": "file"}.get(option, option.replace("_", "-"))
            raise click.UsageError(f"--{name} does not go with {what}")


def recording_path(path: Path) -> Path:
    """The absolute path of a file that is there. Raises CrowError(INVALID)."""
    if not path.is_file():
        raise CrowError(Kind.INVALID, "recording_missing", f"there is no file {path}")
    return path.resolve()


def _urls(given: dict[str, Any]) -> tuple[CameraUrl, CameraUrl | None]:
    if given["vendor"] is None:
        refuse(given, "--url", *_WITH_VENDOR)
        return CameraUrl.parse(given["url"]), None
    if given["host"] is None:
        raise click.UsageError("--vendor needs --host")
    return stream_urls(Vendor(given["vendor"]), given["host"], given["channel"], given["token"])


def _sub_url(given: dict[str, Any]) -> CameraUrl | None:
    return None if given["sub_url"] is None else CameraUrl.parse(given["sub_url"])
