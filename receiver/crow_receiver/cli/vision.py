"""`crow-receiver vision`: what describing frames takes."""

import json
from dataclasses import asdict

import click

from crow_receiver.cli.context import Context
from crow_receiver.cli.table import echo_table
from crow_receiver.models.store import ModelStore
from crow_receiver.vision.choose import llama_settings
from crow_receiver.vision.llama.machine import machine_from_outside
from crow_receiver.vision.llama.plan import Plan, plan_for
from crow_shared.errors import CrowError, Kind


@click.group()
def vision() -> None:
    """Look at how frames are described."""


@vision.command()
@click.option("--model", "name", default="", help="An installed model; without it, the one that the settings take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(ctx: click.Context, name: str, as_json: bool) -> None:
    """Say how a model would be run on this machine, why, and with how much memory; nothing is loaded.

    Exit code 1 when it does not fit.
    """
    context: Context = ctx.obj
    settings = context.settings.vision
    model = ModelStore(context.models_dir).find(name or settings.model)
    if model is None:
        raise CrowError(
            Kind.NOT_FOUND,
            "model_missing",
            f"no such model under {context.models_dir}; `crow-receiver model list` has names",
        )
    planned = plan_for(llama_settings(settings), model.model_path, model.mmproj_path, machine_from_outside())
    if as_json:
        click.echo(json.dumps(_as_json(model.name, planned), indent=2))
    else:
        _say(model.name, planned)
    ctx.exit(0 if planned.fits else 1)


def _as_json(name: str, planned: Plan) -> dict[str, object]:
    return {
        "model": name,
        "options": planned.options.model_dump(),
        "decisions": [asdict(decision) for decision in planned.decisions],
        "memory": [asdict(need) for need in planned.needs],
        "hostBytes": planned.host_bytes,
        "gpuBytes": planned.gpu_bytes,
        "machine": planned.machine.model_dump(),
        "fits": planned.fits,
    }


def _say(name: str, planned: Plan) -> None:
    click.echo(f"{name}, in each of {planned.workers} workers" if planned.workers > 1 else name)
    click.echo()
    rows = [[decision.name, decision.value, decision.source, decision.why] for decision in planned.decisions]
    echo_table(["setting", "value", "from", "why"], rows)
    click.echo()
    needs = [[need.purpose, _gigabytes(need.on_gpu_bytes), _gigabytes(need.on_host_bytes)] for need in planned.needs]
    total = ["together", _gigabytes(planned.gpu_bytes), _gigabytes(planned.host_bytes)]
    there = ["there is", _gigabytes(planned.gpu_memory_bytes), _gigabytes(planned.machine.memory_bytes)]
    echo_table(["memory", "GPU", "machine"], [*needs, total, there])
    if not planned.fits:
        click.echo()
        click.echo("It does not fit: take fewer slots, kv_type q8_0, a smaller context_tokens or a smaller model.")


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes else "-"
