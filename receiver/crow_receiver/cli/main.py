"""`crow-receiver`: run the receiver, look into its queues, keep its model files."""

from importlib.metadata import version
from pathlib import Path

import click

from crow_receiver.cli.audit import audit
from crow_receiver.cli.camera import camera
from crow_receiver.cli.context import Context
from crow_receiver.cli.erase import erase, list_erasures
from crow_receiver.cli.evaluate import evaluate
from crow_receiver.cli.queue import queue
from crow_receiver.cli.reanalyse import list_reanalyses, reanalyse
from crow_receiver.cli.status import status
from crow_receiver.cli.vision import vision
from crow_receiver.models.cli import model
from crow_receiver.settings import ReceiverSettings
from crow_receiver.vision.choose import choose_engines
from crow_shared import log
from crow_shared.cli import CrowGroup, config_option, serve
from crow_shared.lifecycle import Notifier
from crow_shared.settings import sample_toml


@click.group(cls=CrowGroup)
@config_option(Path("/etc/crow-cctv/receiver.toml"), "CROW_RECEIVER_CONFIG")
@click.version_option(version("crow-receiver"), prog_name="crow-receiver")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Takes frames from crow-daemons, has them described, and puts the results on two queues."""
    ctx.obj = Context(config)


main.add_command(queue)
main.add_command(model)
main.add_command(status)
main.add_command(audit)
main.add_command(camera)
main.add_command(vision)
main.add_command(erase)
main.add_command(list_erasures)
main.add_command(evaluate)
main.add_command(reanalyse)
main.add_command(list_reanalyses)


@main.command()
@click.pass_obj
def run(context: Context) -> None:
    """Runs the receiver in the foreground until SIGTERM or SIGINT."""
    from crow_receiver.app import Receiver  # noqa: PLC0415 — gRPC and FastAPI load for this command only

    log.configure(context.settings.log_level, quiet=["uvicorn"])

    async def receiver(notifier: Notifier) -> bool:
        return await Receiver(context.settings, notifier).run()

    serve(receiver)


@main.command("check-config")
@click.option("--sample", is_flag=True, help="Print a complete settings file with all defaults instead.")
@click.pass_obj
def check_config(context: Context, sample: bool) -> None:
    """Checks the settings. Starts nothing, and says which engines would run."""
    if sample:
        click.echo(sample_toml(ReceiverSettings), nl=False)
        return
    loaded = context.settings
    choices = choose_engines(loaded.vision, loaded.models_path)
    click.echo(f"settings are fine ({context.config or 'defaults'}, environment {loaded.environment})")
    click.echo(f"gRPC on {loaded.grpc.listen}, REST on {loaded.rest.listen}, state in {loaded.state_path}")
    for choice in choices:
        click.echo(choice.reason)
    if len(choices) > 1:
        order = ", ".join(choice.engine for choice in choices)
        click.echo(
            f"Tried in this order: {order}; one that is down for {loaded.vision.fallback_after_s:g} s is passed over."
        )
    if not loaded.gateway.internal_key.get_secret_value():
        click.echo("No gateway key: the routes under /api/v1/cctv answer 503; INTERNAL_GATEWAY_KEY sets one.")
