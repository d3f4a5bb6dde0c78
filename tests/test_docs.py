"""The documents are true: what they name exists, and what exists is named."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from crow_daemon.cli.main import main as crow_daemon
from crow_receiver.cli.main import main as crow_receiver

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs/OPERATIONS.md").read_text()


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for child, found in command.commands.items():
            yield from commands(f"{name} {child}", found)
    else:
        yield name, command


COMMANDS = [*commands("crow-daemon", crow_daemon), *commands("crow-receiver", crow_receiver)]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_and_is_documented(name: str, command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option)), name
    everything = "\n".join(document.read_text() for document in DOCUMENTS)
    assert name in everything


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_every_metric_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "receiver/crow_receiver").rglob("*.py"))
    names = set(re.findall(r'"(crow_receiver_[a-z_]+)"', sources))
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in OPERATIONS] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {name for document in DOCUMENTS for name in re.findall(r"\bmake ([a-z-]+)\b", document.read_text())}
    assert named - {"it", "sure"} <= targets


def test_commands_in_the_documents_exist() -> None:
    known = {name for name, _ in COMMANDS} | {"crow-daemon camera", "crow-receiver model", "crow-receiver queue"}
    call = re.compile(r"(?:`|^|/bin/)(crow-(?:daemon|receiver) (?!crow)[a-z-]+)((?: [a-z-]+)?)", re.MULTILINE)
    called = [(document.name, *match) for document in DOCUMENTS for match in call.findall(document.read_text())]
    assert len(called) > 30
    assert [words for words in called if words[1] not in known and words[1] + words[2] not in known] == []
