import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from file_server import FileServer

from crow_receiver.models import cli
from crow_receiver.models.catalogue import Catalogue, CatalogueModel, RemoteFile
from crow_receiver.models.pull import ORIGIN
from crow_shared.cli import CrowGroup

MODEL, MMPROJ = b"GGUF text model", b"GGUF vision tower"


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models directory, with a catalogue of one small model."""
    files = [
        RemoteFile(url=f"{ORIGIN}/{path}", sha256=sha256(content).hexdigest(), size_bytes=len(content))
        for path, content in (("model", MODEL), ("mmproj", MMPROJ))
    ]
    small = Catalogue(
        licence="Terms",
        licence_url="https://example.org/terms",
        models={"gemma-test": CatalogueModel(about="small", model=files[0], mmproj=files[1])},
    )
    monkeypatch.setattr(cli, "catalogue", lambda: small)
    return tmp_path / "models"


@pytest.fixture
def own_files(tmp_path: Path) -> list[str]:
    (tmp_path / "a.gguf").write_bytes(MODEL)
    (tmp_path / "b.gguf").write_bytes(MMPROJ)
    return ["--model", str(tmp_path / "a.gguf"), "--mmproj", str(tmp_path / "b.gguf")]


def run(models_dir: Path, *arguments: str) -> Result:
    group = CrowGroup("crow-receiver", commands={"model": cli.model})
    return CliRunner().invoke(group, ["model", *arguments], obj=SimpleNamespace(models_dir=models_dir))


def test_every_command_has_a_help_text() -> None:
    assert isinstance(cli.model, click.Group)
    assert set(cli.model.commands) == {"list", "pull", "verify", "add", "remove"}
    assert all(command.help for command in cli.model.commands.values())


def test_a_model_is_pulled_from_a_mirror_then_listed_verified_and_removed(models_dir: Path, server: FileServer) -> None:
    server.files = {"/model": MODEL, "/mmproj": MMPROJ}
    assert "to pull" in run(models_dir, "list").output
    pulled = run(models_dir, "pull", "gemma-test", "--accept-license", "--mirror", server.url)
    assert pulled.exit_code == 0, pulled.output
    assert "https://example.org/terms" in pulled.output
    assert (models_dir / "gemma-test" / "model.gguf").read_bytes() == MODEL
    assert json.loads(run(models_dir, "list", "--json").stdout) == [
        {"name": "gemma-test", "installed": True, "sizeBytes": len(MODEL + MMPROJ), "about": "small"}
    ]
    assert "intact" in run(models_dir, "verify", "gemma-test").output
    assert run(models_dir, "remove", "gemma-test").exit_code == 0
    assert "to pull" in run(models_dir, "list").output


def test_nothing_is_fetched_before_the_terms_are_accepted(models_dir: Path, server: FileServer) -> None:
    refused = run(models_dir, "pull", "gemma-test", "--mirror", server.url)
    assert refused.exit_code == 2
    assert "--accept-license" in refused.output
    assert server.asked == []


def test_an_unknown_model_is_answered_with_those_that_there_are(models_dir: Path) -> None:
    refused = run(models_dir, "pull", "gemma-9", "--accept-license")
    assert refused.exit_code == 2
    assert "gemma-test" in refused.output


def test_a_mirror_that_is_no_web_address_is_refused(models_dir: Path) -> None:
    assert run(models_dir, "pull", "gemma-test", "--accept-license", "--mirror", "file:///tmp").exit_code == 2


def test_offline_the_command_fails_and_says_what_to_put_where(models_dir: Path) -> None:
    failed = run(models_dir, "pull", "gemma-test", "--accept-license", "--mirror", "http://127.0.0.1:1")
    assert failed.exit_code == 1
    assert f"at {models_dir / 'gemma-test' / 'mmproj.gguf'}" in failed.output


def test_own_files_are_added_under_an_own_name(models_dir: Path, own_files: list[str]) -> None:
    assert run(models_dir, "add", "mine", *own_files).exit_code == 0
    assert "added by hand" in run(models_dir, "verify", "mine").output
    assert "mine" in run(models_dir, "list").output


def test_only_the_pinned_files_are_added_under_a_name_of_the_catalogue(models_dir: Path, own_files: list[str]) -> None:
    swapped = ["--model", own_files[3], "--mmproj", own_files[1]]
    refused = run(models_dir, "add", "gemma-test", *swapped)
    assert refused.exit_code == 1
    assert "should have" in refused.output
    assert run(models_dir, "add", "gemma-test", *own_files).exit_code == 0
    assert f"{ORIGIN}/model" in run(models_dir, "verify", "gemma-test").output


def test_a_damaged_model_fails_its_verification(models_dir: Path, own_files: list[str]) -> None:
    run(models_dir, "add", "mine", *own_files)
    (models_dir / "mine" / "model.gguf").write_bytes(b"GGUF other model")
    failed = run(models_dir, "verify", "mine")
    assert failed.exit_code == 1
    assert sha256(MODEL).hexdigest() in failed.output
