"""`crow-daemon process`: recordings into the line, as fast as they decode."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from crow_daemon.cli.camera_options import sampling, sampling_options
from crow_daemon.cli.context import DaemonContext
from crow_daemon.recordings.plan import Planned, plan
from crow_daemon.recordings.processing import (
    Processed,
    Processing,
    is_running,
    left_to_read,
    present_source,
    with_own_daemon,
)
from crow_daemon.registry.camera import Camera
from crow_shared import log
from crow_shared.cli import MomentArgument
from crow_shared.clock import SystemClock

_EXAMPLES = """\b
Examples:
  crow-daemon process monday.mp4 --camera monday --recorded-at 2026-11-22T09:00:00+01:00
  crow-daemon process export/ --camera till-recorded --like till --fps 0.5
"""


@click.command(epilog=_EXAMPLES)
@click.argument("paths", metavar="RECORDING...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--camera", "camera_id", required=True, metavar="ID", help="The camera that they are of.")
@click.option("--like", "like_id", metavar="ID", help="Another camera, whose settings, zones and masks to take.")
@click.option(
    "--recorded-at",
    "recorded_at_us",
    type=MomentArgument(),
    help="When the one recording began: 2026-11-22T09:00:00+01:00. Default: by its name, else by what it says.",
)
@sampling_options
@click.option("--yes", is_flag=True, help="Do not ask whether the times are right.")
@click.option("--no-wait", is_flag=True, help="End when all is in the spool, before the receiver has it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def process(
    context: DaemonContext,
    /,
    paths: tuple[Path, ...],
    camera_id: str,
    like_id: str | None,
    recorded_at_us: int | None,
    yes: bool,
    no_wait: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Reads recordings of one camera, files or folders of them, in order of time: MP4, MOV, MKV, WebM, AVI, TS.

    A daemon that runs with this state directory reads them; without one, this command does itself, that camera alone.
    It ends when the receiver has all frames, also those of an earlier run that was interrupted. Interrupted, the same
    command goes on where it was, without losing or doubling a frame.
    """
    settings, clock, registry = context.settings, SystemClock(), context.registry()
    recordings = plan(paths, recorded_at_us)
    present = present_source(registry, camera_id)
    model = registry.get(like_id) if like_id is not None else present
    source = recordings[0].recording
    if model is None:
        camera = Camera(camera_id, given["name"] or camera_id, source)
    else:
        name = present.name if present is not None else camera_id
        camera = replace(model, id=camera_id, name=given["name"] or name, source=source)
    camera = replace(camera, **sampling(given))
    left = left_to_read(registry, camera, present, recordings)
    _echo_plan(recordings, left)
    if not left and (no_wait or present is None):
        return
    if sys.stdin.isatty() and not yes and any(one.because != "as given" for one in left):
        click.confirm("Are these times right?", default=True, abort=True, err=True)
    is_own = not is_running(settings.state_path, clock)
    if is_own:
        log.configure("warning")
    with ExitStack() as opened:
        bar = _Bar(left, opened)
        processing = Processing(registry, settings.state_path, clock, bar)

        async def work() -> Processed:
            return await processing.run(camera, left, wait_for_delivery=not no_wait)

        try:
            done = asyncio.run(with_own_daemon(settings, camera_id, clock, work) if is_own else work())
        except KeyboardInterrupt:
            click.echo("\nnot waited for; the daemon goes on with the present recording", err=True)
            raise SystemExit(1) from None
    if as_json:
        files = [str(one.recording.path) for one in left]
        click.echo(json.dumps({"camera_id": camera_id, "recordings": files, **asdict(done)}, indent=2))
    elif left or not done.delivered:
        _print(camera_id, done)
    if done.lost:
        raise SystemExit(1)


class _Bar:
    """The progress, drawn at a terminal alone."""

    def __init__(self, recordings: Sequence[Planned], opened: ExitStack) -> None:
        length_ms = sum(one.lasts_us or 0 for one in recordings) // 1000
        bar = click.progressbar(length=length_ms, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty())
        self._bar = opened.enter_context(bar)
        self._before_ms = 0  # of the recordings that are through
        self._shown_ms = 0
        self._told: str | None = ""  # why frames wait, as it was said last

    def begins(self, one: Planned) -> None:
        """It is read from now on."""
        self._bar.label = one.recording.path.name[:40]

    def reached(self, one: Planned, capture_us: int) -> None:
        """The capture time of its last sample."""
        read_us = min(max(0, capture_us - one.recording.start_us), one.lasts_us or 0)
        self._show(self._before_ms + read_us // 1000)

    def ends(self, one: Planned) -> None:
        """It was read to its end."""
        self._before_ms += (one.lasts_us or 0) // 1000
        self._show(self._before_ms)

    def delivering(self, frames: int, trouble: str | None) -> None:
        """All is read; so many frames wait for the receiver."""
        if trouble != self._told:
            self._told = trouble
            why = f" ({trouble})" if trouble else ""
            click.echo(f"\nall is read; {frames} frames wait for the receiver{why}", err=True)

    def _show(self, reached_ms: int) -> None:
        if reached_ms > self._shown_ms:
            self._bar.update(reached_ms - self._shown_ms)
            self._shown_ms = reached_ms


def _echo_plan(recordings: Sequence[Planned], left: Sequence[Planned]) -> None:
    for one in recordings:
        began = datetime.fromtimestamp(one.recording.start_us / 1_000_000).astimezone().isoformat(" ", "seconds")
        lasts = "" if one.lasts_us is None else f", {one.lasts_us / 1_000_000:.0f} s"
        done = "" if one in left else "; read before"
        click.echo(f"{one.recording.path.name}: from {began} {one.because}{lasts}{done}", err=True)


def _print(camera_id: str, done: Processed) -> None:
    told = f"{done.expected} samples, {done.sent} sent, {done.gated} gated, {done.dropped} dropped"
    where = "the receiver has them" if done.delivered else "they are in the spool"
    if done.lost:
        reasons = ", ".join(f"{frames} {reason}" for reason, frames in sorted(done.lost.items()))
        where = f"the receiver lacks frames that were given up: {reasons}"
    click.echo(f"camera {camera_id}: {told}; {where}")
