"""A file that a command writes at its end."""

from pathlib import Path
from typing import Any

import click


class OutputFile(click.Path):
    """A file's path; one that could not be written is refused at once: better before a long run than after it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path that `value` names."""
        file = Path(str(super().convert(value, param, ctx)))
        if not file.parent.is_dir():
            self.fail(f"there is no directory {str(file.parent)!r}", param, ctx)
        return file
