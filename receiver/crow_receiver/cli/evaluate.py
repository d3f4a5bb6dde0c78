"""`crow-receiver eval`: how well an engine does on a data set."""

import asyncio
import json
import sys
from pathlib import Path
from typing import get_args

import click

from crow_receiver.cli.context import Context
from crow_receiver.cli.output_file import OutputFile
from crow_receiver.settings import EngineName
from crow_receiver.vision.choose import choose_engines, tells_previous
from crow_shared import log
from crow_shared.clock import SystemClock

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_ENGINES = get_args(EngineName)


@click.command("eval")
@click.argument("folder", metavar="DATASET", type=_FOLDER)
@click.option("--engine", type=click.Choice(_ENGINES), help="Default: as the settings say.")
@click.option("--prompt", help="A version of ours, or a TOML file. Default: as the settings say.")
@click.option("--clips", type=_FOLDER, help="Where the data set's clips lie, if not in its folder.")
@click.option("--labelled-only", is_flag=True, help="Leave out a clip's frames that have no label.")
@click.option("--json", "json_file", type=OutputFile(), help="Write scores and answers to this file.")
@click.option("--picture", "picture_file", type=OutputFile(), help="Write a confusion picture (SVG) here.")
@click.pass_obj
def evaluate(
    context: Context,
    folder: Path,
    engine: str | None,
    prompt: str | None,
    clips: Path | None,
    labelled_only: bool,
    json_file: Path | None,
    picture_file: Path | None,
) -> None:
    """Scores an engine on labelled frames, which it is given in order.

    An engine that compares frames, as classic does, needs those of a clip between the labelled ones; for others
    --labelled-only saves their time. Exit code 1 when a frame failed.
    """
    from crow_receiver import evaluation  # noqa: PLC0415 — OpenCV and libav load for this command only
    from crow_receiver.vision.assembly import assembled  # noqa: PLC0415

    log.configure("warning")
    dataset = evaluation.load_dataset(folder, clips)
    settings = context.settings.vision.with_options(engine=engine, prompt=prompt)
    choices = choose_engines(settings, context.settings.models_path)
    for choice in choices:
        click.echo(choice.reason, err=True)
    vision = assembled(choices, settings, SystemClock())

    async def answers() -> list[evaluation.Answer]:
        await vision.start()
        try:
            with click.progressbar(length=dataset.labelled, label="labelled frames", file=sys.stderr) as bar:
                before = tells_previous(settings, choices)
                return await evaluation.run(
                    dataset, vision, bar.update, labelled_only=labelled_only, tells_previous=before
                )
        finally:
            await vision.close()

    report = evaluation.report_of(dataset, asyncio.run(answers()))
    for line in evaluation.summary(report):
        click.echo(line)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    if picture_file is not None:
        picture_file.write_text(evaluation.picture(report), encoding="utf-8")
    failures = [answer for answer in report.answers if answer.error is not None]
    for answer in failures:
        click.echo(f"failed: {answer.camera} at {answer.time_s:g} s: {answer.error}", err=True)
    if failures:
        raise SystemExit(1)
