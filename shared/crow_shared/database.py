"""Opening an SQLite database the way every database of ours is opened: durable, migrated, private.

1. A commit that returned is on disk: WAL with synchronous=FULL (NORMAL loses committed rows in a power cut).
2. A schema is changed by its migrations only, under a file lock, since several processes may start at once.
3. The file is readable by its owner alone.
4. What is deleted is overwritten in the file, and gone from the log beside it once that was emptied.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlite_utils import Database, Migrations

from crow_shared.disk import make_directory
from crow_shared.errors import CrowError, Kind

BUSY_TIMEOUT_MS = 10_000
_EMPTY_LOG_TIMEOUT_MS = 200


def open_database(path: Path, migrations: Migrations) -> sqlite3.Connection:
    """Opens `path`, made if missing, with its migrations applied; transactions are the caller's (autocommit mode).

    The connection may move between threads, one user at a time. Raises CrowError(UNAVAILABLE) when the file cannot be
    opened or written, CrowError(CORRUPT) when it is no database.
    """
    try:
        make_directory(path.parent)
        _make_private(path)
        with _locked(path.with_name(path.name + ".lock")):
            connection = connect(path)
            migrations.apply(Database(connection))
    except (OSError, sqlite3.OperationalError) as error:
        raise CrowError(Kind.UNAVAILABLE, "database_unavailable", f"cannot open {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise CrowError(Kind.CORRUPT, "database_corrupt", f"{path} is damaged or no database: {error}") from error
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """One more connection to a database that `open_database` has prepared."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma secure_delete = on")
    return connection


def empty_log(connection: sqlite3.Connection) -> None:
    """Brings the log beside the file into the file and empties it, so that deleted content is in neither.

    Raises CrowError(UNAVAILABLE) "database_busy" when somebody reads from the log; it gives up soon, since no one can
    write while it waits for readers.
    """
    connection.execute(f"pragma busy_timeout = {_EMPTY_LOG_TIMEOUT_MS}")
    try:
        (busy, _, _) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    finally:
        connection.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")
    if busy:
        raise CrowError(Kind.UNAVAILABLE, "database_busy", "another process reads the database's log; try again")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commits what happens inside, or rolls it back when it raises.

    It takes the write lock at once: a transaction that begins with a read and writes later meets SQLITE_BUSY_SNAPSHOT
    when there is another writer.
    """
    connection.execute("begin immediate")
    try:
        yield connection
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors (disk full)
            connection.execute("rollback")
        raise


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Raises what SQLite could not do inside as CrowError(UNAVAILABLE), damage as CrowError(CORRUPT).

    A statement that is wrong (a constraint, a misuse) is a defect of ours and stays what it is.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise CrowError(Kind.UNAVAILABLE, "database_unavailable", f"{what}: {error}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise CrowError(Kind.CORRUPT, "database_corrupt", f"{what} is damaged: {error}") from error


def _make_private(path: Path) -> None:
    """Makes an empty file that only its owner can read, or leaves the one that is there alone.

    An existing database must not even be opened and closed: that drops the POSIX locks of every connection that this
    process has to it, and the next process to close its own then deletes the WAL under them
    (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
