"""`crow-receiver reanalyse` and `crow-receiver reanalyses`."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, get_args

import click

from crow_receiver.cli.camera_argument import CameraArgument
from crow_receiver.cli.context import Context
from crow_receiver.cli.output_file import OutputFile
from crow_receiver.cli.table import echo_table, printable
from crow_receiver.reanalysis.difference import Difference, pair_as_json, summary
from crow_receiver.session.records import BatchLimits
from crow_receiver.settings import EngineName, VisionSettings
from crow_receiver.store import cameras, reanalyses
from crow_receiver.store.reanalyses import Found, Pair, Run
from crow_receiver.store.sessions import find_session
from crow_receiver.vision.choose import Choice, choose_engines, tells_previous
from crow_shared import log
from crow_shared.cli import MomentArgument, iso
from crow_shared.clock import SystemClock
from crow_shared.database import transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

_ALL_TIMES = (-(2**62), 2**62)


@click.command()
@click.option("--session", "session_ids", multiple=True, help="This session's frames; may be given several times.")
@click.option("--camera", type=CameraArgument(), help="Or this camera's, with --from and --to.")
@click.option("--from", "from_us", type=MomentArgument(), help="Frames captured from then on.")
@click.option("--to", "to_us", type=MomentArgument(), help="Frames captured before then.")
@click.option("--engine", type=click.Choice(get_args(EngineName)), help="Default: as the settings say.")
@click.option("--prompt", help="A version of ours, or a TOML file. Default: as the settings say.")
@click.option("--model", help="A name of `crow-receiver model list`. Default: as the settings say.")
@click.option("--limit", type=click.IntRange(1), help="Describe so many frames at most, this time.")
@click.option("--again", is_flag=True, help="Begin anew where the same was asked for before.")
@click.option("--dispatch", is_flag=True, help="Tell of the frames again with the run's answers, once it is complete.")
@click.option("--yes", is_flag=True, help="Do not ask before that.")
@click.option("--json", "json_file", type=OutputFile(), help="Write the difference and all frames to this file.")
@click.pass_obj
def reanalyse(
    context: Context,
    session_ids: tuple[str, ...],
    camera: CameraKey | None,
    from_us: int | None,
    to_us: int | None,
    engine: str | None,
    prompt: str | None,
    model: str | None,
    limit: int | None,
    again: bool,
    dispatch: bool,
    yes: bool,
    json_file: Path | None,
) -> None:
    """Describe kept frames again, and show what is different.

    The answers are kept beside the old ones, which stay as they are. Works whether the receiver runs or not, in worker
    processes of its own. After Ctrl-C, or when it was killed, the same command goes on where it was; when all is done,
    it shows the difference again.
    """
    log.configure("warning")
    settings = context.settings.vision.with_options(engine=engine, prompt=prompt, model=model)
    choices = choose_engines(settings, context.settings.models_path)
    span = _span(session_ids, camera, from_us, to_us)
    asked = {"engines": [_facts(choice) for choice in choices], **_asked(session_ids, camera, span)}
    with context.database() as db:
        chosen = _sessions(db, session_ids, camera, span)
        with transaction(db):
            words = json.dumps(asked, sort_keys=True)
            run_id = reanalyses.begin(db, words, chosen, SystemClock().now_us(), anew=again)
        before = _found(db, run_id, chosen, span)
        _echo_found(run_id, before)
        if reanalyses.by_id(db, run_id).told:
            click.echo(f"run {run_id} was dispatched: it takes no more frames; --again begins another", err=True)
        elif before.done < before.kept:
            most = min(limit or sys.maxsize, before.kept - before.done)
            _describe(context, db, settings, choices, run_id, chosen, span, most)
        run = reanalyses.by_id(db, run_id)
        _show(db, run, json_file)
        if dispatch:
            _dispatch(context, db, run, _found(db, run_id, chosen, span), yes)


@click.command("reanalyses")
@click.argument("run_id", metavar="[RUN]", type=int, required=False)
@click.option("--json", "json_file", type=OutputFile(), help="Write the run's difference and all frames to this file.")
@click.option("--remove", is_flag=True, help="Let the run go with all its answers.")
@click.pass_obj
def list_reanalyses(context: Context, run_id: int | None, json_file: Path | None, remove: bool) -> None:
    """List what was described again, show how a run differs from what was said before, or remove it."""
    if run_id is None and (json_file or remove):
        raise click.UsageError("--json and --remove need a RUN")
    with context.database() as db:
        if run_id is None:
            _list(reanalyses.every(db))
        elif remove:
            with transaction(db):
                reanalyses.remove(db, run_id)
            click.echo(f"run {run_id} is removed")
        else:
            _show(db, reanalyses.by_id(db, run_id), json_file)


def _span(
    session_ids: Sequence[str], camera: CameraKey | None, from_us: int | None, to_us: int | None
) -> tuple[int, int]:
    if session_ids and (camera, from_us, to_us) == (None, None, None):
        return _ALL_TIMES
    if session_ids or camera is None or from_us is None or to_us is None:
        raise click.UsageError("say which frames: --session, or --camera with --from and --to")
    if from_us >= to_us:
        raise click.UsageError("--to has to be later than --from")
    return from_us, to_us


def _asked(session_ids: Sequence[str], camera: CameraKey | None, span: tuple[int, int]) -> dict[str, Any]:
    if camera is None:
        return {"sessions": sorted(set(session_ids))}
    return {"camera": str(camera), "from_us": span[0], "to_us": span[1]}


def _facts(choice: Choice) -> dict[str, Any]:
    """What tells runs apart by who describes."""
    worker = choice.worker
    return {
        "engine": worker.engine,
        "models": [endpoint.model for endpoint in worker.openai.endpoints] or [worker.model],
        "model_sha256": worker.model_sha256,
        "mmproj_sha256": worker.mmproj_sha256,
        "prompt": "" if worker.engine == "classic" else worker.prompt.version,
    }


def _sessions(
    db: sqlite3.Connection, session_ids: Sequence[str], camera: CameraKey | None, span: tuple[int, int]
) -> list[str]:
    if camera is None:
        for session_id in session_ids:
            if find_session(db, session_id) is None:
                raise CrowError(Kind.NOT_FOUND, "session_unknown", f"there is no session {session_id}")
        return sorted(set(session_ids))
    known = cameras.find(db, camera)
    if known is None:
        raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {camera}")
    found = reanalyses.sessions_between(db, known.id, *span)
    if not found:
        raise CrowError(Kind.NOT_FOUND, "session_unknown", f"{camera} has no session in that time")
    return found


def _found(db: sqlite3.Connection, run_id: int, sessions: Sequence[str], span: tuple[int, int]) -> Found:
    return reduce(add, (reanalyses.found(db, run_id, one, *span) for one in sessions), Found(0, 0, 0, 0, 0, 0, 0))


def _echo_found(run_id: int, found: Found) -> None:
    of_these = [(found.keyframes, "keyframes"), (found.failed_before, "failed before")]
    others = [(found.without_picture, "without picture"), (found.erased, "erased"), (found.waiting, "waiting still")]
    inside = ", ".join(f"{count} {what}" for count, what in of_these if count)
    beside = "".join(f"; {count} {what}" for count, what in others if count)
    kept = f"{found.kept} frames with their pictures" + (f" ({inside})" if inside else "")
    click.echo(f"run {run_id}: {kept}, {found.done} of them done{beside}", err=True)


def _describe(
    context: Context,
    db: sqlite3.Connection,
    settings: VisionSettings,
    choices: Sequence[Choice],
    run_id: int,
    sessions: Sequence[str],
    span: tuple[int, int],
    most: int,
) -> None:
    from crow_receiver.reanalysis.replay import Replay, stretches  # noqa: PLC0415 — what it takes loads for this command only
    from crow_receiver.vision.assembly import assembled  # noqa: PLC0415

    for choice in choices:
        click.echo(choice.reason, err=True)
    vision = assembled(choices, settings, SystemClock())
    compares = any(choice.engine == "classic" for choice in choices)  # a camera's frames with those before
    found = [session for one in sessions if (session := find_session(db, one)) is not None]
    wanted = [stretch for session in found for stretch in stretches(session, *span, split=not compares)]

    async def described() -> None:
        await vision.start()
        try:
            with click.progressbar(length=most, label="frames", item_show_func=_rate, file=sys.stderr) as bar:
                began_s = time.monotonic()

                def progress() -> None:
                    bar.update(1, (bar.pos + 1) / (time.monotonic() - began_s))

                pictures, before = context.settings.state_path / "pictures", tells_previous(settings, choices)
                replay = Replay(db, pictures, vision, run_id, progress, tells_previous=before)
                await replay.run(wanted, most)
        finally:
            await vision.close()

    try:
        asyncio.run(described())
    except KeyboardInterrupt:
        click.echo("\nstopped; what is done is kept, and the same command goes on", err=True)
        raise SystemExit(1) from None


def _rate(frames_per_s: float | None) -> str | None:
    return None if frames_per_s is None else f"{frames_per_s:.2f} frames/s"


def _dispatch(context: Context, db: sqlite3.Connection, run: Run, found: Found, yes: bool) -> None:
    from crow_receiver.reanalysis.telling import tell  # noqa: PLC0415

    if not run.told and found.done < found.kept:
        left = found.kept - found.done
        raise CrowError(Kind.CONFLICT, "run_incomplete", f"run {run.id} has {left} frames left: finish it first")
    if not yes:
        click.confirm(
            f"Tell of {run.sessions - run.told} sessions again? Consumers that do not replace by revision count twice.",
            abort=True,
        )
    batch = context.settings.batch
    with click.progressbar(length=run.sessions, label="sessions", file=sys.stderr) as bar:
        told = tell(db, run.id, BatchLimits(batch.frames, batch.age_s), SystemClock().now_us(), bar.update)
    click.echo(f"dispatched: {told.batches} batches are told again, with their minutes and sessions")
    if told.too_large:
        click.echo(f"{told.too_large} batches would be larger than a message may be: they stay as they were told")


def _show(db: sqlite3.Connection, run: Run, json_file: Path | None) -> None:
    sessions = [session_id for session_id, _ in reanalyses.sessions_of(db, run.id)]

    def pairs() -> Iterator[Pair]:
        for session_id in sessions:
            yield from reanalyses.pairs(db, run.id, session_id)

    difference = Difference.of(pairs())
    click.echo(f"run        {run.id}, {iso(run.begun_us)}: {printable(_who(run))}; {_state(run)}")
    for line in summary(difference):
        click.echo(printable(line))
    if json_file is not None:
        told = {"run": run.id, "asked": run.asked, "begun_us": run.begun_us, "sessions": sessions, "told": run.told}
        frames = [pair_as_json(pair) for pair in pairs()]
        text = json.dumps(told | {"difference": difference.as_json(), "frames": frames}, indent=1)
        json_file.write_text(text + "\n", encoding="utf-8")


def _list(runs: Sequence[Run]) -> None:
    if not runs:
        click.echo("nothing was described again")
        return
    echo_table(
        ["run", "begun", "by", "sessions", "described", "failed", "dispatched"],
        [
            [
                str(run.id),
                iso(run.begun_us),
                _who(run),
                str(run.sessions),
                str(run.described),
                str(run.failed),
                _state(run),
            ]
            for run in runs
        ],
    )


def _who(run: Run) -> str:
    return ", then ".join(
        " ".join(filter(None, [one["engine"], *one["models"], one["prompt"]])) for one in run.asked["engines"]
    )


def _state(run: Run) -> str:
    if not run.told:
        return "not dispatched"
    return "dispatched" if run.told == run.sessions else f"{run.told} of {run.sessions} sessions dispatched"
