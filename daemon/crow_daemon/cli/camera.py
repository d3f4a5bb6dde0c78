"""`crow-daemon camera …`: the cameras of this daemon.

The group finds the registry through `ctx.obj.registry()`: the command above it puts an object with that method there.
Failures are raised as CrowError; the command above prints them in one line and picks the exit code.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from crow_daemon.cli.camera_view import camera_json, print_camera, print_probe, print_table, probe_json
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
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind

MAX_PASSWORD_CHARACTERS = 256
MAX_FPS = 30
MIN_FPS = 1 / 3600
PROBE_TIMEOUT_S = 20.0
EVERY_PICTURE_MS = 33

_ADD_EXAMPLES = """\b
Examples:
  crow-daemon camera add till --url rtsp://192.168.1.64/stream1 --username shop
  crow-daemon camera add monday --file till.mp4 --recorded-at 2026-11-22T09:00:00+01:00
"""


class CameraContext(Protocol):
    """What `ctx.obj` has to offer."""

    def registry(self) -> Registry:
        """The registry, opened. Raises CrowError when that fails."""
        ...


_CAMERA_ONLY = ("sub_url", "username", "password_stdin", "password_file", "transport")

Command = TypeVar("Command", bound=Callable[..., Any])


def _checked_fps(_ctx: click.Context, _param: click.Parameter, fps: float | None) -> float | None:
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise click.BadParameter(f"{fps:g} samples a second; it is at most {MAX_FPS}, and at least one an hour")
    return fps


def _sampling_options(command: Command) -> Command:
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
                "Default: off.",
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


def _source_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option("--url", metavar="URL", help="rtsp:// or rtsps:// URL, without user name and password."),
            click.option("--sub-url", metavar="URL", help="The camera's smaller stream, for a gate to look at."),
            click.option(
                "--username", metavar="NAME", help="User name at the camera; at a terminal, the password is asked for."
            ),
            click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
            click.option(
                "--password-file",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Read the password from a file.",
            ),
            click.option(
                "--transport",
                type=click.Choice([transport.value for transport in Transport]),
                help="What RTP travels over. Default: tcp.",
            ),
            click.option("--file", "path", type=click.Path(path_type=Path), help="A recording instead of a camera."),
            click.option("--recorded-at", metavar="TIME", help="When the recording began: 2026-11-22T09:00:00+01:00."),
        )
    ):
        command = option(command)
    return command


@click.group()
def camera() -> None:
    """Cameras and recordings that this daemon reads."""


@camera.command(epilog=_ADD_EXAMPLES)
@click.argument("camera_id", metavar="ID")
@_source_options
@_sampling_options
@click.option("--disabled", is_flag=True, help="Add it without starting it.")
@click.pass_obj
def add(context: CameraContext, /, camera_id: str, disabled: bool, **given: Any) -> None:
    """Adds a camera. A running daemon starts it within a second."""
    source = _new_source(given)
    fresh = Camera(camera_id, given["name"] or camera_id, source, enabled=not disabled, **_sampling(given))
    context.registry().add(fresh, _password(given, ask=given["username"] is not None))
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
@_source_options
@_sampling_options
@click.option("--no-login", is_flag=True, help="Forget user name and password.")
@click.pass_obj
def edit(context: CameraContext, /, camera_id: str, no_login: bool, **given: Any) -> None:
    """Changes what is given and leaves the rest. A running daemon starts the camera anew."""
    if not no_login and not any(value not in (None, False) for value in given.values()):
        raise click.UsageError("nothing to change is given")
    registry = context.registry()
    before = registry.get(camera_id)
    changed = _sampling(given) | ({"name": given["name"]} if given["name"] is not None else {})
    source = _changed_source(before.source, given, no_login=no_login)
    registry.update(replace(before, source=source, **changed), _password(given, ask=given["username"] is not None))
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
    """Starts a disabled camera. A recording is read from its start again."""
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
@click.argument("camera_id", metavar="[ID]", required=False)
@_source_options
@click.option("--snapshot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture to this JPEG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a failure too.")
@click.pass_obj
def test(context: CameraContext, /, camera_id: str | None, snapshot: Path | None, as_json: bool, **given: Any) -> None:
    """Connects, logs in and looks at some pictures.

    Takes a camera by its ID, or one that is not added yet by its --url or --file. The exit code is 0 when pictures
    came, else 1.
    """
    from crow_daemon.capture.probe import probe  # noqa: PLC0415 — loads libav, which the other commands do without
    from crow_daemon.capture.pyav_source import source_of  # noqa: PLC0415

    tried, credentials = _to_test(context, camera_id, given)
    # With every picture wanted, no short cut over keyframes is taken and the frame rate can be measured.
    source = source_of(replace(tried, sample_interval_ms=EVERY_PICTURE_MS), credentials, SystemClock())
    try:
        seen = probe(tried, source, SystemClock(), PROBE_TIMEOUT_S)
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


def _to_test(context: CameraContext, camera_id: str | None, given: dict[str, Any]) -> tuple[Camera, Credentials | None]:
    if (camera_id is None) == (given["url"] is None and given["path"] is None):
        raise click.UsageError("give the ID of a camera, or --url or --file")
    if camera_id is not None:
        _refuse(given, "an ID", *_CAMERA_ONLY, "recorded_at")
        registry = context.registry()
        return registry.get(camera_id), registry.credentials(camera_id)
    source = _new_source(given, recorded_at_needed=False)
    password = _password(given, ask=given["username"] is not None)
    login = Credentials(given["username"], password or Secret("")) if given["username"] is not None else None
    return Camera("test", "test", source), login


def _sampling(given: dict[str, Any]) -> dict[str, Any]:
    found = {key: given[key] for key in ("heartbeat_s", "motion_ttl_s", "pre_roll", "jpeg_long_side", "jpeg_quality")}
    for key, choices in (("gate", GateMode), ("mode", CaptureMode), ("reader", ReaderChoice), ("blur", Blur)):
        found[key] = None if given[key] is None else choices(given[key])
    found["grid_row"], found["grid_column"] = given["grid"] or (None, None)
    found["sample_interval_ms"] = None if given["fps"] is None else round(1000 / given["fps"])
    return {key: value for key, value in found.items() if value is not None}


def _new_source(given: dict[str, Any], *, recorded_at_needed: bool = True) -> RtspAddress | Recording:
    if (given["url"] is None) == (given["path"] is None):
        raise click.UsageError("give either --url or --file")
    if given["path"] is not None:
        _refuse(given, "a recording", *_CAMERA_ONLY)
        if given["recorded_at"] is None and recorded_at_needed:
            raise click.UsageError("a recording needs --recorded-at: sessions are made by the time of capture")
        return Recording(_recording_path(given["path"]), _instant_us(given["recorded_at"]))
    _refuse(given, "a camera", "recorded_at")
    if given["username"] is None:
        _refuse(given, "a camera without --username", "password_stdin", "password_file")
    transport = Transport(given["transport"] or Transport.TCP)
    return RtspAddress(CameraUrl.parse(given["url"]), given["username"], transport, _sub_url(given))


def _changed_source(
    before: RtspAddress | Recording, given: dict[str, Any], *, no_login: bool
) -> RtspAddress | Recording:
    match before:
        case Recording():
            _refuse(given, "a recording", "url", *_CAMERA_ONLY)
            path = _recording_path(given["path"]) if given["path"] is not None else before.path
            start_us = _instant_us(given["recorded_at"]) if given["recorded_at"] is not None else before.start_us
            return Recording(path, start_us)
        case RtspAddress():
            _refuse(given, "a camera", "path", "recorded_at")
            url = CameraUrl.parse(given["url"]) if given["url"] is not None else before.url
            username = None if no_login else given["username"] or before.username
            if username is None:
                _refuse(given, "a camera without --username", "password_stdin", "password_file")
            return RtspAddress(
                url, username, Transport(given["transport"] or before.transport), _sub_url(given) or before.sub_url
            )


def _sub_url(given: dict[str, Any]) -> CameraUrl | None:
    return None if given["sub_url"] is None else CameraUrl.parse(given["sub_url"])


def _refuse(given: dict[str, Any], what: str, *options: str) -> None:
    for option in options:
        if given[option]:
            name = {"path": "file"}.get(option, option.replace("_", "-"))
            raise click.UsageError(f"--{name} does not go with {what}")


def _recording_path(path: Path) -> Path:
    if not path.is_file():
        raise CrowError(Kind.INVALID, "recording_missing", f"there is no file {path}")
    return path.resolve()


def _instant_us(text: str | None) -> int:
    if text is None:
        return 0
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise CrowError(
            Kind.INVALID,
            "bad_recorded_at",
            f"--recorded-at {text[:40]!r} is no time with a zone; example: 2026-11-22T09:00:00+01:00",
        )
    return round(instant.timestamp() * 1_000_000)


def _password(given: dict[str, Any], *, ask: bool) -> Secret | None:
    """The password from where the options say; asked for when `ask` and a terminal is there."""
    if given["password_stdin"] and given["password_file"]:
        raise click.UsageError("give either --password-stdin or --password-file")
    if given["password_stdin"]:
        text = sys.stdin.read(MAX_PASSWORD_CHARACTERS + 2)
    elif given["password_file"]:
        try:
            text = given["password_file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise CrowError(
                Kind.INVALID, "password_unreadable", f"cannot read a password from {given['password_file']}"
            ) from None
    elif not ask:
        return None
    elif sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, default="", show_default=False)
    else:
        raise click.UsageError("no terminal to ask for the password at: give --password-stdin or --password-file")
    word = text.removesuffix("\n").removesuffix("\r")
    if len(word) > MAX_PASSWORD_CHARACTERS or not word.isprintable():
        raise CrowError(
            Kind.INVALID,
            "bad_password",
            f"a password has at most {MAX_PASSWORD_CHARACTERS} printable characters, on one line",
        )
    return Secret(word)


def _write(path: Path, jpeg: bytes) -> None:
    try:
        path.write_bytes(jpeg)
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "snapshot_failed", f"cannot write {path}: {error.strerror}") from None
