"""`crow-receiver audit`."""

import json
from typing import BinaryIO

import click

from crow_receiver.audit.audit import audit as run_audit
from crow_receiver.audit.numbers import ALWAYS, Span
from crow_receiver.audit.report import AuditReport, End
from crow_receiver.audit.spool import parsed_spool
from crow_receiver.cli.camera_argument import CameraArgument
from crow_receiver.cli.context import Context
from crow_receiver.cli.table import echo_table
from crow_shared.cli import MomentArgument
from crow_shared.clock import SystemClock
from crow_shared.identity import CameraKey

_MOST_SHOWN = 20  # faults, unless all are asked for by --json


@click.command()
@click.option("--from", "from_us", type=MomentArgument(), help="Frames captured from then on. Default: all.")
@click.option("--to", "to_us", type=MomentArgument(), help="Frames captured before then.")
@click.option("--camera", type=CameraArgument(), help="This camera alone.")
@click.option(
    "--spool",
    "spools",
    type=click.File("rb"),
    multiple=True,
    help="What `crow-daemon spool status --json` printed just before; - reads it from standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def audit(
    context: Context,
    from_us: int | None,
    to_us: int | None,
    camera: CameraKey | None,
    spools: tuple[BinaryIO, ...],
    as_json: bool,
) -> None:
    """Proves that every frame has exactly one end.

    Looks at every sequence number that a daemon's stream has come to, at sessions, batches and messages, and lists what
    does not fit: exit code 1. Works whether the receiver runs or not. Without --from and --to it looks at everything.
    """
    statuses = [parsed_spool(file.read(), getattr(file, "name", "--spool")) for file in spools]
    span = Span(ALWAYS.from_us if from_us is None else from_us, ALWAYS.to_us if to_us is None else to_us)
    queue = context.queue()
    try:
        report = run_audit(context.settings.state_path, queue, SystemClock(), span, camera, statuses)
    finally:
        queue.close()
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print(report)
    if report.totals:
        raise SystemExit(1)


def _print(report: AuditReport) -> None:
    columns = ["camera", "numbers", *(end.value for end in End)]
    rows = [[str(one.camera), str(one.ends.total()), *(str(one.ends[end]) for end in End)] for one in report.cameras]
    echo_table(columns, rows)
    for one in report.cameras:
        for reason, count in sorted(one.reasons.items()):
            click.echo(f"{one.camera}: {count} missing: {reason}")
    for ledger in report.ledgers:
        if ledger.sent:
            waits = "" if ledger.at_daemon is None else f", {ledger.at_daemon} at the daemon"
            on_the_way = f", {ledger.elsewhere} on their way" if ledger.elsewhere else ""
            click.echo(
                f"{ledger.camera}: {ledger.sent} sent by its ledger: {ledger.stored} are here{waits}{on_the_way}"
            )
    where = ", ".join(f"{count} {place}" for place, count in sorted(report.messages.items()))
    click.echo(f"{report.sessions} sessions; messages: {where or 'none'}")
    for fault in report.faults[:_MOST_SHOWN]:
        click.echo(f"FAULT {fault.kind}: {fault.camera}: {fault.detail}" + f" ({fault.numbers})" * (fault.numbers > 1))
    for kind, count in report.totals.items():
        click.echo(f"FAULT {kind}: {count} in all")
    if not report.totals:
        click.echo("every number has exactly one end")
