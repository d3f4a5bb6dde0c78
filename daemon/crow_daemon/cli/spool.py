"""`crow-daemon spool …`: what waits on this machine, whether it is sound, and what to do when it is not.

The group finds the settings through `ctx.obj.settings`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from crow_daemon.ledger.database import note_renumbered
from crow_daemon.settings import DaemonSettings
from crow_daemon.spool.check import check as check_spool
from crow_daemon.spool.repair import UNBOUNDED
from crow_daemon.spool.repair import repair as repair_spool
from crow_daemon.spool.report import report
from crow_daemon.spool.spool import Spool
from crow_shared import log
from crow_shared.cli import MomentArgument, iso
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

_MOST_SHOWN = 50
_ERASE_EXAMPLE = """\b
Example:
  crow-daemon spool erase --camera till --from 2026-11-22T09:00:00+01:00 --to 2026-11-22T10:00:00+01:00
"""


class SpoolContext(Protocol):
    """What `ctx.obj` has to offer."""

    @property
    def settings(self) -> DaemonSettings:
        """The settings. Raises CrowError when they are wrong."""
        ...


@click.group()
@click.pass_obj
def spool(context: SpoolContext, /) -> None:
    """Frames on disk that the receiver does not have yet."""
    log.configure(context.settings.log_level)


@spool.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print all of it as JSON, as `crow-receiver audit --spool` reads it."
)
@click.pass_obj
def status(context: SpoolContext, /, as_json: bool) -> None:
    """Shows what became of every number. Works beside a running daemon and without one."""
    settings = context.settings
    identity = {key: getattr(settings, key) for key in ("organization_id", "site_id", "daemon_id")}
    shown = identity | report(settings.state_path / "spool")
    if as_json:
        click.echo(json.dumps(shown, indent=1))
    else:
        _print_report(shown)


@spool.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def check(context: SpoolContext, /, as_json: bool) -> None:
    """Verifies the files, every waiting picture included; changes nothing. Exit code 1 when something is wrong."""
    checked = check_spool(context.settings.state_path / "spool")
    if as_json:
        shown = {"segments": checked.segments, "frames": checked.frames, "violations": checked.violations}
        click.echo(json.dumps(shown, indent=1))
    else:
        for violation in checked.violations[:_MOST_SHOWN]:
            click.echo(violation)
        if len(checked.violations) > _MOST_SHOWN:
            click.echo(f"… and {len(checked.violations) - _MOST_SHOWN} more")
        verdict = f"{len(checked.violations)} violations" if checked.violations else "sound"
        click.echo(f"{checked.segments} segments, {checked.frames} waiting frames: {verdict}")
    if checked.violations:
        raise SystemExit(1)


@spool.command()
@click.option(
    "--new-epoch",
    is_flag=True,
    help="Give all that waits new numbers under a fresh epoch: for a spool restored from a backup. "
    "Frames that the receiver has already will be there twice.",
)
@click.pass_obj
def repair(context: SpoolContext, /, new_epoch: bool) -> None:
    """Sets aside and counts what is damaged. The daemon has to be stopped."""
    with _stopped():
        repaired = repair_spool(context.settings.state_path / "spool", new_epoch=new_epoch)
    note_renumbered(context.settings.state_path / "ledger.db", repaired.moved_frames)
    click.echo(f"{repaired.given_up_frames} frames given up, {repaired.rewritten_segments} segments written anew")
    if new_epoch:
        click.echo(f"{sum(repaired.moved_frames.values())} frames moved to a fresh epoch")


@spool.command(epilog=_ERASE_EXAMPLE)
@click.option("--camera", "camera_id", required=True, metavar="ID", help="Whose pictures.")
@click.option("--from", "from_us", required=True, type=MomentArgument(), help="First moment, with its zone.")
@click.option("--to", "to_us", required=True, type=MomentArgument(), help="First moment that is kept again.")
@click.pass_obj
def erase(context: SpoolContext, /, camera_id: str, from_us: int, to_us: int) -> None:
    """Erases the pictures of a camera from a span of capture time. The daemon has to be stopped."""
    checked_id(camera_id, "camera")
    if from_us >= to_us:
        raise CrowError(Kind.INVALID, "bad_span", "--from is not before --to")
    with _stopped():
        opened = Spool(context.settings.state_path / "spool", UNBOUNDED)
        try:
            erased = opened.erase(camera_id, from_us, to_us)
        finally:
            opened.close()
    click.echo(f"{erased} pictures erased; what the receiver has of them: `crow-receiver erase`")


@contextmanager
def _stopped() -> Iterator[None]:
    """Says what to do when the daemon has the spool."""
    try:
        yield
    except CrowError as error:
        if error.kind is not Kind.CONFLICT:
            raise
        how = "stop it first (systemctl stop crow-daemon) and start it afterwards"
        raise CrowError(Kind.CONFLICT, "daemon_runs", f"the daemon is using the spool; {how}") from None


def _print_report(shown: dict[str, Any]) -> None:
    since = "" if shown["oldest_spooled_us"] is None else f", the oldest since {iso(shown['oldest_spooled_us'])}"
    click.echo(f"{shown['directory']}: {shown['bytes'] / 1e6:.1f} MB in {shown['segments']} segments{since}")
    for camera in shown["cameras"]:
        lost = [f"{row['reason']} {row['frames']}" for row in shown["lost"] if row["camera_id"] == camera["camera_id"]]
        told = f"spooled {camera['spooled']}, acknowledged {camera['acknowledged']}, lost {', '.join(lost) or 0}"
        click.echo(f"  {camera['camera_id']:<20} {told}")
    for epoch in shown["epochs"]:
        click.echo(f"epoch {epoch['epoch']} ({'sealed' if epoch['sealed'] else 'being written'})")
        for camera in epoch["cameras"]:
            waiting = sum(last - first + 1 for first, last in camera["waiting"])
            told = f"numbers to {camera['last_seq']}, acknowledged to {camera['acked_seq']}, waiting {waiting}"
            click.echo(f"  {camera['camera_id']:<20} {told}")
            for hole in camera["holes"]:
                click.echo(
                    f"    {hole['from_seq']} to {hole['to_seq']} will not come: {hole['reason']} ({hole['detail']})"
                )
    if shown["damaged_bytes"] or shown["quarantined"]:
        told = f"{shown['damaged_bytes']} damaged bytes, {shown['quarantined']} pieces in quarantine"
        click.echo(f"{told}: `crow-daemon spool check`")
