"""`crow-daemon camera discover`: the cameras of this network that speak ONVIF."""

import json
from typing import Any

import click

from crow_daemon.cli.context import CameraContext
from crow_daemon.cli.login import login, login_options
from crow_daemon.onvif.device import Stream
from crow_daemon.onvif.discovery import discover as discover_devices
from crow_daemon.onvif.survey import Surveyed, as_camera, known_as, named_host, survey, with_substream
from crow_daemon.registry.camera import Camera
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Credentials
from crow_shared.errors import CrowError, Kind

_EXAMPLES = """\b
Examples:
  crow-daemon camera discover
  crow-daemon camera discover --host 192.168.1.64 --host 192.168.1.65 --username shop --add
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.5, 60),
    default=3,
    show_default=True,
    help="Seconds to wait for answers.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Ask this address and do not look around; may be given several times.",
)
@login_options
@click.option("--add", "is_adding", is_flag=True, help="Add the cameras that tell their streams.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def discover(
    context: CameraContext, /, wait_s: float, hosts: tuple[str, ...], is_adding: bool, as_json: bool, **given: Any
) -> None:
    """Finds cameras that speak ONVIF and asks them for their streams, the main one and the smallest.

    Most tell their streams only to a user of theirs: give --username. The password is not sent in clear here, but
    whoever answers gets a digest of it: look first without, then name your cameras with --host. The exit code is 1 when
    no camera answers, or one could not be added.
    """
    credentials = login(given)
    if is_adding and credentials is not None and not hosts:
        raise click.UsageError(
            "--add with a login goes with --host: a camera that is added gets the password however it asks for it, "
            "so say which of those that were found are yours"
        )
    devices = [named_host(host) for host in hosts] if hosts else discover_devices(wait_s)
    surveyed = survey(devices, credentials)
    registry = context.registry()
    told = [_told(one, registry.cameras()) for one in surveyed]
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)
    taken = [
        _add(one, index, registry, credentials, quiet=as_json)
        for one in (surveyed if is_adding else ())
        for index in range(len(one.device.channels) if one.device else 0)
    ]
    if not surveyed:
        raise CrowError(
            Kind.UNAVAILABLE,
            "none_found",
            "no camera answered; ONVIF may be switched off in it, or multicast does not reach it: give --host",
        )
    if all(one.error for one in surveyed) or not all(taken):
        raise SystemExit(1)


def _told(surveyed: Surveyed, cameras: list[Camera]) -> dict[str, Any]:
    found, device, error = surveyed.found, surveyed.device, surveyed.error
    channels = []
    for channel in device.channels if device else ():
        known = known_as(channel, cameras)
        channels.append({"main": _stream(channel.main), "sub": _stream(channel.sub), "camera": known and known.id})
    return {
        "host": found.host,
        "name": found.name,
        "maker": device.maker if device else "",
        "model": device.model if device else found.hardware,
        "channels": channels,
        "error": error and {"code": error.code, "message": error.message},
    }


def _stream(stream: Stream | None) -> dict[str, Any] | None:
    if stream is None:
        return None
    return {"url": str(stream.url), "codec": stream.codec, "width": stream.width, "height": stream.height}


def _print(told: list[dict[str, Any]]) -> None:
    for device in told:
        words = " ".join(word for word in (device["maker"], device["model"]) if word)
        click.echo(f"{device['host']:<16} {words:<28} {device['name']}".rstrip())
        if device["error"]:
            click.echo(f"{'':<16} {device['error']['message']}")
        for channel in device["channels"]:
            for name in ("main", "sub"):
                if stream := channel[name]:
                    size = f"{stream['codec']} {stream['width']}x{stream['height']}"
                    known = f"  is camera {channel['camera']}" if channel["camera"] and name == "main" else ""
                    click.echo(f"{'':<16} {name:<5} {size:<16} {stream['url']}{known}")


def _add(surveyed: Surveyed, index: int, registry: Registry, credentials: Credentials | None, *, quiet: bool) -> bool:
    """Adds a channel of a device that answered; whether it is there now."""
    assert surveyed.device is not None
    channel = surveyed.device.channels[index]
    known = known_as(channel, registry.cameras())
    if known is None:
        fresh = as_camera(surveyed, index, credentials.username if credentials else None)
        try:
            registry.add(fresh, credentials.password if credentials else None)
        except CrowError as error:
            click.echo(f"not added: {error.message}", err=True)
            return False
        done = f"camera {fresh.id} added"
    elif (changed := with_substream(known, channel)) != known:
        registry.update(changed)
        done = f"camera {known.id}: smaller stream filled in"
    else:
        done = f"camera {known.id} is there already"
    if not quiet:
        click.echo(done)
    return True
