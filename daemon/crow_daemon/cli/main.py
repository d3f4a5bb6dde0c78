"""`crow-daemon`: run the daemon, look at it, and keep its cameras."""

import json
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from crow_daemon import settings, status
from crow_daemon.cli.camera import camera
from crow_daemon.cli.spool import spool as spool_group
from crow_daemon.registry.registry import Registry
from crow_daemon.settings import DaemonSettings
from crow_shared import log
from crow_shared.cli import CrowGroup, config_option, serve
from crow_shared.clock import SystemClock
from crow_shared.lifecycle import Notifier
from crow_shared.settings import sample_toml


class Context:
    """What the commands share: the settings, read when first needed, and the camera registry."""

    def __init__(self, config: Path | None) -> None:
        self.config = config

    @cached_property
    def settings(self) -> DaemonSettings:
        """Raises CrowError when the settings are wrong."""
        return settings.load(self.config)

    def registry(self) -> Registry:
        """The camera registry. Raises CrowError when the state directory cannot be used."""
        return Registry(self.settings.state_path / "cameras.db")


@click.group(cls=CrowGroup)
@config_option(Path("/etc/crow-cctv/daemon.toml"), "CROW_DAEMON_CONFIG")
@click.version_option(version("crow-daemon"), prog_name="crow-daemon")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Reads shop cameras and streams their frames to a crow-receiver."""
    ctx.obj = Context(config)


main.add_command(camera)
main.add_command(spool_group)


@main.command()
@click.pass_obj
def run(context: Context) -> None:
    """Runs the daemon in the foreground until SIGTERM or SIGINT."""
    from crow_daemon.app import Daemon  # noqa: PLC0415 — libav and gRPC load for this command only

    log.configure(context.settings.log_level)

    async def daemon(notifier: Notifier) -> bool:
        return await Daemon(context.settings, notifier).run()

    serve(daemon)


@main.command("check-config")
@click.option("--sample", is_flag=True, help="Print a complete settings file with all defaults instead.")
@click.pass_obj
def check_config(context: Context, sample: bool) -> None:
    """Checks settings and cameras. Starts nothing."""
    if sample:
        click.echo(sample_toml(DaemonSettings), nl=False)
        return
    loaded = context.settings
    registry = context.registry()
    cameras = registry.cameras()
    registry.close()
    enabled = sum(camera.enabled for camera in cameras)
    click.echo(f"settings are fine ({context.config or 'defaults'}, environment {loaded.environment})")
    click.echo(f"{len(cameras)} cameras, {enabled} enabled, in {loaded.state_path}; receiver {loaded.uplink.receiver}")


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print the whole status as JSON.")
@click.pass_obj
def show_status(context: Context, as_json: bool) -> None:
    """Shows what the running daemon is doing. Exit code 1 when it does not run."""
    current = status.read(context.settings.state_path, SystemClock().now_us())
    if as_json:
        click.echo(json.dumps(current, indent=2))
    else:
        _print_status(current)
    if not current["running"]:
        raise SystemExit(1)


def _print_status(current: "dict[str, object]") -> None:
    click.echo(f"daemon {current['site_id']}/{current['daemon_id']} {current['version']}: {_life(current)}")
    uplink, spool = current["uplink"], current["spool"]
    assert isinstance(uplink, dict)
    assert isinstance(spool, dict)
    error = f" ({uplink['last_error']})" if uplink["last_error"] else ""
    closed = " (the receiver takes no frames for now)" if uplink["window_frames"] == 0 else ""
    click.echo(f"uplink to {uplink['receiver']}: {uplink['state']}{error}{closed}")
    if backlog := uplink["backlog"]:
        click.echo(f"backlog: {_backlog(backlog)}")
    trouble = f"; TROUBLE: {spool['trouble']}" if spool["trouble"] else ""
    click.echo(f"spool: {spool['waiting']} frames wait, {spool['bytes'] / 1e6:.1f} MB{trouble}")
    cameras = current["cameras"]
    assert isinstance(cameras, list)
    for camera_status in cameras:
        counts = camera_status["counters"]
        places = camera_status["spool"]
        reason = f" — {camera_status['last_error']}" if camera_status["last_error"] else ""
        asked_ms = camera_status["asked_interval_ms"]
        pace = f"; the receiver asks for one sample in {asked_ms / 1000:g} s" if asked_ms else ""
        click.echo(
            f"  {camera_status['camera_id']:<20} {camera_status['state']:<12} expected {counts['expected']}, "
            f"sampled {counts['sampled']}, missed {_total(counts['missed'])}, "
            f"gated {_total(counts['gated'])}, dropped {_total(counts['dropped'])}; "
            f"spool: acknowledged {places['acknowledged']}, waiting {places['waiting']}, "
            f"lost {_total(places['lost'])}{pace}{reason}"
        )


def _backlog(backlog: dict[str, Any]) -> str:
    oldest_us, left_s = backlog["oldest_us"], backlog["drain_s"]
    since = f" since {datetime.fromtimestamp(oldest_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC" if oldest_us else ""
    ends = "nothing of it moves" if left_s is None else f"{backlog['frames_per_s']:g} a second, through in {left_s:g} s"
    error = f" ({backlog['error']})" if backlog["error"] else ""
    return f"{backlog['frames']} frames{since}; {ends}{error}"


def _life(current: "dict[str, object]") -> str:
    if current["running"]:
        return "running"
    last_word = f"this is its last word, {current['age_s']} s old"
    if current["silent"]:
        return f"process {current['pid']} lives but writes no status: its disk may refuse (see its log); {last_word}"
    return f"NOT running; {last_word}"


def _total(by_reason: dict[str, int]) -> int:
    return sum(by_reason.values())
