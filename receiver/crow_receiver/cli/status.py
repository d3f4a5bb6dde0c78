"""`crow-receiver status`."""

import json
from datetime import UTC, datetime

import click

from crow_receiver.cli.context import Context
from crow_receiver.overview import CameraOverview, LastHour, Overview, overview
from crow_receiver.vision.engine_state import EngineState


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
    for engine in counted.engines:
        click.echo(f"engine {engine.name}: {_engine(engine)}")
    for camera in counted.cameras:
        click.echo(
            f"{camera.camera}: {camera.stored} frames ({camera.analysed} analysed, {camera.waiting} waiting, "
            f"{camera.failed} failed, {camera.erased} erased), {camera.missing} missing; "
            f"sessions: {camera.sessions} ({camera.open_sessions} open){_behind(camera)}{_last_hour(camera.last_hour)}"
        )
    for failure, frames in counted.failures.items():
        click.echo(f"failed: {frames} x {failure}")
    for queue in counted.queues:
        states = ", ".join(f"{queue[state]} {state}" for state in ("ready", "leased", "delayed", "dead"))
        click.echo(f"{queue['queue']}: {states}")
    click.echo(f"outbox: {counted.outbox} messages wait for a queue")


def _engine(engine: EngineState) -> str:
    if engine.trouble is None:
        return "serves"
    since = datetime.fromtimestamp(engine.since_us / 1_000_000, UTC).isoformat(timespec="seconds")
    return f"down since {since}{', passed over' if engine.passed_over else ''}: {engine.trouble}"


def _last_hour(hour: LastHour) -> str:
    if hour.seen_percent is None:
        return ""
    lost = ", ".join(f"{samples} {reason}" for reason, samples in sorted(hour.dropped.items()))
    alerts = f"; ALERTS: {', '.join(hour.alerts)}" if hour.alerts else ""
    seen = f"; last hour: {hour.seen_percent:.1f} % of {hour.expected} samples seen"
    return seen + f" ({lost})" * bool(lost) + alerts


def _behind(camera: CameraOverview) -> str:
    parts = []
    if camera.waiting > camera.late_waiting:
        parts.append(f"analysis is {camera.behind_s:.0f} s behind")
    if camera.late_waiting:
        parts.append(f"{camera.late_waiting} late frames wait, for {camera.late_behind_s:.0f} s at most")
    return "; " + "; ".join(parts) if parts else ""
