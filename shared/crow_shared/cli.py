"""What the two commands have in common: how an error ends them.

Exit codes: 0 done, 1 it did not work, 2 the input is wrong (click's own choice for usage errors, too).
"""

from typing import Any

import click

from crow_shared.errors import CrowError, Kind
from crow_shared.log import redacted

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
