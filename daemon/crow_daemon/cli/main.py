"""`crow-daemon`: run the daemon, look at it, and keep its cameras."""

from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import click

from crow_daemon import settings
from crow_daemon.cli.camera import camera
from crow_daemon.cli.grab import grab, mosaic
from crow_daemon.cli.process import process
from crow_daemon.cli.spool import spool as spool_group
from crow_daemon.cli.status import status
from crow_daemon.registry.registry import Registry
from crow_daemon.settings import DaemonSettings
from crow_shared import log
from crow_shared.cli import CrowGroup, config_option, serve
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
main.add_command(grab)
main.add_command(mosaic)
main.add_command(process)
main.add_command(spool_group)
main.add_command(status)


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
