"""One writer thread with group commit, and a reader beside it.

Invariants
1. All writes happen on one thread, in the order in which they were asked for.
2. `write` returns after the commit, and the pictures that the transaction points at were synced before it.
3. Work that raises takes back only its own changes; the group's other work is committed.
4. When the commit itself fails, every work of the group fails with CrowError(UNAVAILABLE) and nothing of it stays.
5. Whatever happens to a group, its callers are answered and the thread goes on with the next.
6. Who asks after `close` is told so with CrowError(UNAVAILABLE): nothing comes behind the None in the writer's queue.
7. `trouble` says why the disk refused the latest change, until a group of changes succeeds.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crow_receiver.store.migrations import migrations
from crow_shared.database import connect, empty_log, open_database, translated_errors
from crow_shared.errors import CrowError, Kind
from crow_shared.segments import Pointer, SegmentStore

GROUP_MOST = 256  # pieces of work per commit

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a piece of write work may use."""

    db: sqlite3.Connection
    pictures: SegmentStore


@dataclass(slots=True)
class _Job:
    work: Callable[[Transaction], Any]
    done: Future[Any]
    result: Any = None


class Store:
    """The receiver's database and pictures."""

    def __init__(self, directory: Path) -> None:
        """Opens, and makes or migrates, what lies in `directory`. Raises CrowError when it cannot be used."""
        path = directory / "receiver.db"
        self._pictures = SegmentStore(directory / "pictures")  # first, since it keeps a second receiver out
        db = open_database(path, migrations)
        self._transaction = Transaction(db, self._pictures)
        self._reading = connect(path)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._asking = threading.Lock()  # keeps `close` and its None apart from who asks meanwhile
        self.trouble: str | None = None
        self._writer = threading.Thread(target=self._write_groups, name="store-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Runs `work` in the next group's transaction and returns its result once it is on disk.

        What `work` raises is raised here; sqlite3 errors arrive as CrowError(UNAVAILABLE). Cancelling the caller does
        not take the work back.
        """
        job = _Job(work, Future())
        with self._asking:
            self._check_open()
            self._jobs.put(job)
        result: Result = await asyncio.shield(asyncio.wrap_future(job.done))
        return result

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs `work`, which only reads, on the reader's thread. Raises CrowError(UNAVAILABLE) when the disk fails."""

        def guarded() -> Result:
            with translated_errors("receiver.db"):
                return work(self._reading)

        return await self._on_reader(guarded)

    async def empty_log(self) -> None:
        """Leaves nothing of what was deleted so far in the log. Raises CrowError(UNAVAILABLE) when readers are busy."""
        await self.read(empty_log)

    async def read_picture(self, pointer: Pointer) -> bytes:
        """The bytes of a picture. Raises CrowError(CORRUPT) when they are missing or damaged."""
        return await self._on_reader(lambda: self._pictures.read(pointer))

    def close(self) -> None:
        """Finishes the work that was asked for, then closes; once more changes nothing."""
        with self._asking:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._pictures.close()
        self._reading.close()
        self._transaction.db.close()

    async def _on_reader(self, work: Callable[[], Result]) -> Result:
        with self._asking:
            self._check_open()
            reading = asyncio.get_running_loop().run_in_executor(self._readers, work)
        return await reading

    def _check_open(self) -> None:
        if self._closed:
            raise CrowError(Kind.UNAVAILABLE, "store_closed", "the store is closed")

    def _write_groups(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            group = [job]
            last = False
            while len(group) < GROUP_MOST and not self._jobs.empty():
                another = self._jobs.get()
                if another is None:
                    last = True
                    break
                group.append(another)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[_Job]) -> None:
        db = self._transaction.db
        changes_before = db.total_changes
        try:
            db.execute("begin immediate")
            good = [job for job in group if self._run(job)]
            self._pictures.sync()
            db.execute("commit")
        except Exception as error:  # noqa: BLE001 — whatever it is, everybody in the group waits for an answer
            with suppress(sqlite3.Error):
                if db.in_transaction:  # SQLite itself has rolled back after some errors (disk full)
                    db.execute("rollback")
            failure = CrowError(Kind.UNAVAILABLE, "store_unavailable", f"cannot commit: {error}")
            self.trouble = failure.message
            for job in group:
                if not job.done.done():
                    job.done.set_exception(failure)
            return
        if len(good) == len(group) and db.total_changes > changes_before:
            self.trouble = None
        for job in good:
            job.done.set_result(job.result)

    def _run(self, job: _Job) -> bool:
        """Runs one piece of work inside a savepoint of its own; False when it raised."""
        db = self._transaction.db
        db.execute("savepoint work")
        try:
            job.result = job.work(self._transaction)
        except Exception as error:  # whatever it is, it belongs to the one who asked for the work
            if not db.in_transaction:  # SQLite itself has rolled back all of the group (disk full)
                raise
            db.execute("rollback to work")
            db.execute("release work")
            if isinstance(error, sqlite3.OperationalError):
                error = CrowError(Kind.UNAVAILABLE, "store_unavailable", f"database: {error}")
            if isinstance(error, CrowError) and error.code == "store_unavailable":  # others are no fault of the disk
                self.trouble = error.message
            job.done.set_exception(error)
            return False
        db.execute("release work")
        return True
