"""Options for logging in at a camera, and the password from where they say: never from the command line itself."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crow_daemon.registry.secret import Credentials, Secret
from crow_shared.errors import CrowError, Kind

MAX_PASSWORD_CHARACTERS = 256

Command = TypeVar("Command", bound=Callable[..., Any])


def login_options(command: Command) -> Command:
    """The options `--username`, `--password-stdin` and `--password-file`."""
    for option in reversed(
        (
            click.option(
                "--username", metavar="NAME", help="User name at the camera; at a terminal, the password is asked for."
            ),
            click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
            click.option(
                "--password-file",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Read the password from a file.",
            ),
        )
    ):
        command = option(command)
    return command


def login(given: dict[str, Any]) -> Credentials | None:
    """User name and password; None without a user name. Raises CrowError(INVALID) and click.UsageError."""
    if given["username"] is None:
        return None
    return Credentials(given["username"], password(given) or Secret(""))


def password(given: dict[str, Any]) -> Secret | None:
    """The password from where the options say; with a user name alone it is asked for, where a terminal is there.

    None when the options speak of none. Raises CrowError(INVALID) and click.UsageError.
    """
    if given["password_stdin"] and given["password_file"]:
        raise click.UsageError("give either --password-stdin or --password-file")
    if given["password_stdin"]:
        text = sys.stdin.read(MAX_PASSWORD_CHARACTERS + 2)
    elif given["password_file"]:
        try:
            text = given["password_file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise CrowError(
                Kind.INVALID, "password_unreadable", f"cannot read a password from {given['password_file']}"
            ) from None
    elif given["username"] is None:
        return None
    elif sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, default="", show_default=False)
    else:
        raise click.UsageError("no terminal to ask for the password at: give --password-stdin or --password-file")
    word = text.removesuffix("\n").removesuffix("\r")
    if len(word) > MAX_PASSWORD_CHARACTERS or not word.isprintable():
        raise CrowError(
            Kind.INVALID,
            "bad_password",
            f"a password has at most {MAX_PASSWORD_CHARACTERS} printable characters, on one line",
        )
    return Secret(word)
