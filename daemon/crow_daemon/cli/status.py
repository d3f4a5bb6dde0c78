"""`crow-daemon status`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from crow_daemon import status as status_file
from crow_daemon.ledger.database import LedgerDatabase
from crow_daemon.ledger.tally import Tally
from crow_daemon.settings import DaemonSettings
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError
from crow_shared.samples import seen_percent

_SKEW_SAID_US = 2_000_000
_SPANS_US = {"hour": 3_600_000_000, "day": 86_400_000_000}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole status as JSON.")
@click.pass_obj
def status(context: Any, as_json: bool) -> None:
    """Shows what the running daemon is doing. Exit code 1 when it does not run.

    What became of the samples of the last hour and day is told of a daemon that does not run, too.
    """
    settings: DaemonSettings = context.settings
    now_us = SystemClock().now_us()
    current = status_file.read(settings.state_path, now_us)
    _add_ledger(current, settings.state_path / "ledger.db", now_us)
    if as_json:
        click.echo(json.dumps(current, indent=2))
    else:
        _print(current)
    if not current["running"]:
        raise SystemExit(1)


def _add_ledger(current: dict[str, Any], path: Path, now_us: int) -> None:
    """Where the disk refuses to open the ledger, as a read-only one does, all else is told, and that."""
    sums: dict[str, Any] = {span: {} for span in _SPANS_US}
    try:
        if path.exists():
            database = LedgerDatabase(path)
            sums = {span: database.sums(now_us - back_us) for span, back_us in _SPANS_US.items()}
            database.close()
    except CrowError as error:
        current["ledger"]["trouble"] = error.message
        sums = dict.fromkeys(_SPANS_US)
    for camera in current["cameras"]:
        for span, by_camera in sums.items():
            is_known = by_camera is not None
            camera[span] = _counts(by_camera.get(camera["camera_id"], Tally())) if is_known else None


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "expected": tally.expected,
        "sent": tally.sent,
        "gated": dict(tally.gated),
        "dropped": dict(tally.dropped),
        "seen_percent": seen_percent(tally.expected, tally.sent, tally.gated),
        "alerts": sorted(tally.alerts),
    }


def _print(current: dict[str, Any]) -> None:
    click.echo(f"daemon {current['site_id']}/{current['daemon_id']} {current['version']}: {_life(current)}")
    uplink, spool = current["uplink"], current["spool"]
    error = f" ({uplink['last_error']})" if uplink["last_error"] else ""
    closed = " (the receiver takes no frames for now)" if uplink["window_frames"] == 0 else ""
    click.echo(f"uplink to {uplink['receiver']}: {uplink['state']}{error}{closed}")
    if backlog := uplink["backlog"]:
        click.echo(f"backlog: {_backlog(backlog)}")
    trouble = f"; TROUBLE: {spool['trouble']}" if spool["trouble"] else ""
    click.echo(f"spool: {spool['waiting']} frames wait, {spool['bytes'] / 1e6:.1f} MB{trouble}")
    if current["ledger"]["trouble"]:
        click.echo(f"sample ledger: TROUBLE: {current['ledger']['trouble']}")
    if current["workers"]:
        click.echo(f"capture workers: {'; '.join(_worker(worker) for worker in current['workers'])}")
    for camera in current["cameras"]:
        _print_camera(camera)


def _worker(worker: dict[str, Any]) -> str:
    cameras, losses = len(worker["cameras"]), worker["losses"]
    lost = f", lost before {_with_reasons(losses)}" if losses else ""
    where = f"process {worker['pid']}" if worker["pid"] else "to be started"
    return f"{where} with {cameras} camera{'s'[: cameras != 1]}, {worker['memory_bytes'] / 1e6:.0f} MB{lost}"


def _print_camera(camera: dict[str, Any]) -> None:
    places, asked_ms = camera["spool"], camera["asked_interval_ms"]
    reason = f" — {camera['last_error']}" if camera["last_error"] else ""
    alert = f"; ALERT: {camera['alert']}" if camera["alert"] else ""
    pace = f"; the receiver asks for one sample in {asked_ms / 1000:g} s" if asked_ms else ""
    click.echo(
        f"  {camera['camera_id']:<20} {camera['state']:<12} spool: acknowledged {places['acknowledged']}, "
        f"waiting {places['waiting']}, lost {_total(places['lost'])}{alert}{pace}{reason}"
    )
    if stream := camera["stream"]:
        click.echo(f"    {_read(stream)}{_clock(camera['clock_skew_us'])}")
    for span in _SPANS_US:
        click.echo(f"    last {span:<5} {_said(camera[span])}")


def _read(stream: dict[str, Any]) -> str:
    picture = f"{stream['codec']} of {stream['width']}x{stream['height']}"
    why = f" ({stream['why']})" if stream["why"] else ""
    return f"{picture}, reader {stream['reader']}, mode {stream['mode']}{why}"


def _clock(skew_us: int | None) -> str:
    if skew_us is None or abs(skew_us) < _SKEW_SAID_US:
        return ""
    return f"; its clock is {abs(skew_us) / 1e6:.1f} s {'ahead' if skew_us > 0 else 'behind'}"


def _said(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return "cannot be told"
    if not counts["expected"]:
        return "no sample was due"
    return (
        f"{counts['seen_percent']:.1f} % seen: expected {counts['expected']}, sent {counts['sent']}, "
        f"gated {_with_reasons(counts['gated'])}, dropped {_with_reasons(counts['dropped'])}"
    )


def _with_reasons(by_reason: dict[str, int]) -> str:
    largest_first = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{reason} {samples}" for reason, samples in largest_first)
    return f"{_total(by_reason)}" + (f" ({reasons})" if reasons else "")


def _backlog(backlog: dict[str, Any]) -> str:
    oldest_us, left_s = backlog["oldest_us"], backlog["drain_s"]
    since = f" since {datetime.fromtimestamp(oldest_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC" if oldest_us else ""
    ends = "nothing of it moves" if left_s is None else f"{backlog['frames_per_s']:g} a second, through in {left_s:g} s"
    error = f" ({backlog['error']})" if backlog["error"] else ""
    return f"{backlog['frames']} frames{since}; {ends}{error}"


def _life(current: dict[str, Any]) -> str:
    if current["running"]:
        return "running"
    last_word = f"this is its last word, {current['age_s']} s old"
    if current["silent"]:
        return f"process {current['pid']} lives but writes no status: its disk may refuse (see its log); {last_word}"
    return f"NOT running; {last_word}"


def _total(by_reason: dict[str, int]) -> int:
    return sum(by_reason.values())
