"""`crow-receiver model`: the weights that frames are described with."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from crow_receiver.models.catalogue import ORIGIN, catalogue
from crow_receiver.models.store import InstalledModel, ModelStore, Progress

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_BAR_STEP_BYTES = 4 << 20


class ModelsPlace(Protocol):
    """What the context object of the command has to offer."""

    @property
    def models_dir(self) -> Path:
        """Where model files lie."""
        ...


@click.group()
def model() -> None:
    """Keep the Gemma 3 weights that frames are described with."""


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_models(place: ModelsPlace, as_json: bool) -> None:
    """List the models that are installed and those that can be pulled."""
    installed = {found.name: found for found in ModelStore(place.models_dir).installed()}
    rows = [
        {"name": name, "installed": name in installed, "sizeBytes": entry.size_bytes, "about": entry.about}
        for name, entry in catalogue().models.items()
    ]
    rows += [
        {"name": name, "installed": True, "sizeBytes": found.size_bytes, "about": found.manifest.source}
        for name, found in installed.items()
        if name not in catalogue().models
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = "installed" if row["installed"] else "to pull"
        click.echo(f"{row['name']:<18}{state:<11}{_gigabytes(row['sizeBytes']):>8}  {row['about']}")


@model.command("pull")
@click.argument("name")
@click.option("--accept-license", is_flag=True, help="Accept the model's terms without being asked.")
@click.option("--mirror", default="", envvar="CROW_MODEL_MIRROR", help=f"Address to use in place of {ORIGIN}.")
@click.pass_obj
def pull_model(place: ModelsPlace, name: str, accept_license: bool, mirror: str) -> None:
    """Fetch a model of the catalogue, and check it against the checksums pinned there.

    An interrupted pull is resumed. Files that lie in their place already are checked and not fetched.
    """
    from crow_receiver.models.pull import pull  # noqa: PLC0415 — httpx loads for this command only

    entry = catalogue().get(name)
    if mirror and not mirror.startswith(("http://", "https://")):
        raise click.UsageError("a mirror's address begins with https:// or http://")
    click.echo(f"{name} ({_gigabytes(entry.size_bytes)}) comes under the {catalogue().licence}:", err=True)
    click.echo(f"  {catalogue().licence_url}", err=True)
    if not accept_license:
        if not sys.stdin.isatty():
            raise click.UsageError("read the terms, and accept them with --accept-license")
        click.confirm("Do you accept these terms?", abort=True, err=True)
    with _bar(name, entry.size_bytes) as progress:
        installed = pull(ModelStore(place.models_dir), name, entry, progress, mirror=mirror)
    _say_installed(installed)


@model.command()
@click.argument("name")
@click.pass_obj
def verify(place: ModelsPlace, name: str) -> None:
    """Hash an installed model's files and compare them with its manifest."""
    store = ModelStore(place.models_dir)
    with _bar(name, store.get(name).size_bytes) as progress:
        verified = store.verify(name, progress)
    click.echo(f"{name} is intact: {verified.manifest.source}")


@model.command()
@click.argument("name")
@click.option("--model", "model_file", type=_FILE, required=True, help="The text model's GGUF file.")
@click.option("--mmproj", "mmproj_file", type=_FILE, required=True, help="The vision tower's GGUF file.")
@click.pass_obj
def add(place: ModelsPlace, name: str, model_file: Path, mmproj_file: Path) -> None:
    """Copy in files that are already on this machine, and record their checksums.

    Under a name of the catalogue they have to be the files pinned there.
    """
    entry = catalogue().models.get(name)
    size_bytes = model_file.stat().st_size + mmproj_file.stat().st_size
    with _bar(name, size_bytes) as progress:
        added = ModelStore(place.models_dir).add(
            name, model_file, mmproj_file, expected=entry.manifest if entry else None, progress=progress
        )
    _say_installed(added)


@model.command()
@click.argument("name")
@click.pass_obj
def remove(place: ModelsPlace, name: str) -> None:
    """Delete a model's files, those of an unfinished pull included."""
    ModelStore(place.models_dir).remove(name)
    click.echo(f"{name} is removed")


def _say_installed(installed: InstalledModel) -> None:
    click.echo(f"{installed.name} is installed in {installed.directory}; crow-receiver takes it at its next start")


@contextmanager
def _bar(label: str, size_bytes: int) -> Iterator[Progress]:
    with click.progressbar(length=size_bytes, label=label, file=sys.stderr, update_min_steps=_BAR_STEP_BYTES) as bar:
        yield bar.update


def _gigabytes(size_bytes: object) -> str:
    return f"{int(str(size_bytes)) / 1e9:.1f} GB"
