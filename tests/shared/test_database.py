"""Databases are durable, migrated once, private, and shared safely between processes."""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from crow_shared.database import BUSY_TIMEOUT_MS, connect, empty_log, open_database, transaction
from crow_shared.errors import CrowError, Kind

migrations = Migrations("test")


@migrations()
def m001(db: Database) -> None:
    db.execute("create table note (text text not null) strict")


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("insert into note values (?)", (sys.argv[2],))
db.commit()
db.close()
"""


def test_connections_see_what_other_processes_write_and_close(tmp_path: Path) -> None:
    """A process that opens a database twice keeps its locks, so no other process takes the WAL away from it."""
    path = tmp_path / "t.db"
    first, second = open_database(path, migrations), open_database(path, migrations)
    for text in ("one", "two"):
        subprocess.run([sys.executable, "-c", WRITER, str(path), text], check=True)
        for connection in (first, second):
            assert connection.execute("select text from note order by rowid desc").fetchone() == (text,)
    first.close()
    second.close()


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom test_database import migrations\n"
        "from crow_shared.database import open_database\nopen_database(Path(sys.argv[1]), migrations).close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "t.db"), str(Path(__file__).parent)]
    starting = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(30) for process in starting] == [0] * 4


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    db = open_database(tmp_path / "t.db", migrations)
    with pytest.raises(ZeroDivisionError), transaction(db):
        db.execute("insert into note values ('x')")
        _ = 1 / 0
    assert db.execute("select count(*) from note").fetchone() == (0,)
    assert not db.in_transaction
    db.close()


def test_a_log_that_is_being_read_is_not_emptied_and_holds_up_no_writer(tmp_path: Path) -> None:
    """SQLite lets nobody write while a checkpoint waits for readers: an audit may read for minutes."""
    path = tmp_path / "t.db"
    writer, reader, emptier = open_database(path, migrations), connect(path), connect(path)
    reader.execute("begin")
    reader.execute("select * from note").fetchall()
    writer.execute("insert into note values ('x')")
    begun_s = time.monotonic()
    with pytest.raises(CrowError) as caught:
        empty_log(emptier)
    assert time.monotonic() - begun_s < BUSY_TIMEOUT_MS / 1000 / 2
    assert caught.value.code == "database_busy"
    assert emptier.execute("pragma busy_timeout").fetchone() == (BUSY_TIMEOUT_MS,)
    reader.execute("commit")
    empty_log(emptier)
    assert path.with_name("t.db-wal").stat().st_size == 0
    for connection in (writer, reader, emptier):
        connection.close()


def test_every_connection_is_durable(tmp_path: Path) -> None:
    opened = open_database(tmp_path / "t.db", migrations)
    for db in (opened, connect(tmp_path / "t.db")):
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
        assert db.execute("pragma synchronous").fetchone() == (2,)
        db.close()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(CrowError) as caught:
        open_database(tmp_path / "t.db", migrations)
    assert caught.value.kind is Kind.CORRUPT


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    open_database(tmp_path / "t.db", migrations).close()
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600


def test_values_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    db = open_database(tmp_path / "t.db", migrations)
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("insert into note values (?)", (b"\xff",))
    db.close()
