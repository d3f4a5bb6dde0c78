"""What the two commands have in common: where their settings are, how they serve, how an error ends them.

Exit codes: 0 done, 1 it did not work, 2 the input is wrong (click's own choice for usage errors, too).
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from crow_shared.allocator import keep_freed_memory
from crow_shared.errors import CrowError, Kind
from crow_shared.lifecycle import Notifier
from crow_shared.log import redacted

Command = TypeVar("Command", bound=Callable[..., Any])

_INPUT_KINDS = frozenset({Kind.INVALID, Kind.NOT_FOUND, Kind.CONFLICT, Kind.UNSUPPORTED, Kind.TOO_LARGE})


class CrowGroup(click.Group):
    """A command group in which a CrowError becomes one line on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except CrowError as error:
            click.echo(f"error: {redacted(error.message)}", err=True)
            ctx.exit(2 if error.kind in _INPUT_KINDS else 1)
        except OSError as error:  # a directory without permission, a full disk: nothing that a traceback would explain
            click.echo(f"error: {redacted(str(error))}", err=True)
            ctx.exit(1)


def config_option(default: Path, variable: str) -> Callable[[Command], Command]:
    """The option `--config`: the settings file, or None where neither it nor `default` is there."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=variable,
        callback=lambda _context, _option, given: given or (default if default.exists() else None),
        help=f"Settings file. Default: {default} if it exists, else built-in defaults.",
    )


def serve(service: Callable[[Notifier], Coroutine[Any, Any, bool]]) -> None:
    """Runs a service in the foreground to its end; exit code 1 when it says that a part of it failed."""
    keep_freed_memory()
    if not asyncio.run(service(Notifier(os.environ))):
        raise SystemExit(1)


class MomentArgument(click.ParamType[int]):
    """A moment as ISO 8601 with its zone; in µs since the Unix epoch."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment that `value` names."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is no time with a zone; example: 2026-11-22T09:00:00+01:00", param, ctx)
        return round(moment.timestamp() * 1_000_000)


def iso(time_us: int) -> str:
    """A moment for people, in UTC."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds")
