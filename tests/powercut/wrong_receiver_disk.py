"""The receiver with one thing wrong on purpose; the first argument says which."""

import os
import sqlite3
import sys
from pathlib import Path

from crow_shared import database

wrong = sys.argv.pop(1)
connect_durably = database.connect


def connect_carelessly(path: Path) -> sqlite3.Connection:
    connection = connect_durably(path)
    connection.execute("pragma synchronous = normal")
    return connection


if wrong == "synchronous-normal":
    database.connect = connect_carelessly
elif wrong == "no-picture-sync":
    os.fdatasync = lambda fd: None  # type: ignore[assignment]
else:
    sys.exit(f"unknown: {wrong}")

from crow_receiver.cli.main import main  # noqa: E402 — after the change

main(prog_name="crow-receiver")
