"""`crow-receiver status`."""

import json

import click

from crow_receiver.cli.context import Context
from crow_receiver.overview import Overview, overview


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Counts frames, sessions and messages. Works whether the receiver runs or not."""
    queue = context.queue()
    counted = overview(context.settings.state_path, queue)
    queue.close()
    if as_json:
        click.echo(json.dumps(counted.as_json(), indent=2))
    else:
        _print(counted)


def _print(counted: Overview) -> None:
    for camera in counted.cameras:
        click.echo(
            f"{camera.camera}: {camera.stored} frames ({camera.analysed} analysed, {camera.waiting} waiting, "
            f"{camera.failed} failed), {camera.missing} missing; "
            f"sessions: {camera.sessions} ({camera.open_sessions} open)"
        )
    for failure, frames in counted.failures.items():
        click.echo(f"failed: {frames} x {failure}")
    for queue in counted.queues:
        states = ", ".join(f"{queue[state]} {state}" for state in ("ready", "leased", "delayed", "dead"))
        click.echo(f"{queue['queue']}: {states}")
    click.echo(f"outbox: {counted.outbox} messages wait for a queue")
