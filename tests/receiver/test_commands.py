"""What `crow-receiver` tells an operator before anything runs."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from crow_receiver.cli.main import main


@pytest.mark.parametrize(("key", "warned"), [("", True), ("a key", False)])
def test_routes_that_would_answer_503_for_want_of_a_key_are_announced(
    key: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("INTERNAL_GATEWAY_KEY", key)
    result = CliRunner().invoke(main, ["check-config"])
    assert result.exit_code == 0, result.output
    assert ("INTERNAL_GATEWAY_KEY" in result.stdout) == warned


@pytest.mark.parametrize("words", [["status"], ["queue", "depths"]])
def test_looking_makes_nothing(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look as root made would not be readable for the service."""
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "state"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "no receiver has run in" in result.stderr
    assert not (tmp_path / "state").exists()
