"""Rows as an operator reads them."""

from collections.abc import Sequence

import click


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under their columns' names, aligned.

    What does not print becomes a space: consumers, models and operators wrote some cells, and none of them sends codes
    to the terminal.
    """
    lines = [columns, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """The text without what a terminal would take for a command: it becomes spaces."""
    return "".join(char if char.isprintable() else " " for char in text)
