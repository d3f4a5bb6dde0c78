"""`crow-daemon camera` and its neighbours, as an operator runs them against one registry."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from crow_daemon.cli.main import main
from crow_daemon.registry.registry import Registry


@dataclass
class Shell:
    """Runs commands with a state directory of their own."""

    state: Path

    def registry(self) -> Registry:
        return Registry(self.state / "cameras.db")

    def run(self, *words: str, stdin: str | None = None) -> Result:
        environ = {"CROW_DAEMON_STATE_DIR": str(self.state), "CROW_DAEMON_CONFIG": ""}
        return CliRunner().invoke(main, words, input=stdin, env=environ)

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        return self.run("camera", *words, stdin=stdin)

    def ok(self, *words: str, stdin: str | None = None) -> str:
        result = self(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.output

    def shown(self, camera_id: str) -> dict[str, Any]:
        return json.loads(self.ok("show", camera_id, "--json"))
