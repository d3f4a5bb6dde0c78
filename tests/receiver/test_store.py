"""The store answers everybody, whatever happens to the disk, and one receiver has it at a time."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from crow_receiver.store.store import Store, Transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.segments import Pointer


async def test_a_commit_that_fails_in_an_unknown_way_is_answered_and_the_next_one_works(store: Store) -> None:
    def break_the_commit(tx: Transaction) -> None:
        def fail() -> None:
            tx.pictures.sync = sync  # type: ignore[method-assign]
            raise RuntimeError("nobody thought of this")

        sync = tx.pictures.sync
        tx.pictures.sync = fail  # type: ignore[method-assign]

    async with asyncio.timeout(5):
        with pytest.raises(CrowError) as caught:
            await store.write(break_the_commit)
        assert caught.value.kind is Kind.UNAVAILABLE
        assert await store.write(lambda tx: tx.db.execute("select 1").fetchone()) == (1,)


async def test_a_read_that_the_disk_refuses_is_an_error_that_may_pass(store: Store) -> None:
    def refuse(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(CrowError) as caught:
        await store.read(refuse)
    assert caught.value.retryable


async def test_a_full_disk_is_named_until_a_change_succeeds(store: Store) -> None:
    await store.write(lambda tx: tx.db.execute("create table filled (b blob)"))
    await store.write(lambda tx: tx.db.execute("pragma max_page_count = 1").fetchone())
    with pytest.raises(CrowError, match="full"):
        await store.write(lambda tx: tx.db.execute("insert into filled values (zeroblob(100000))"))
    assert "full" in (store.trouble or "")
    await store.write(lambda tx: tx.db.execute("select 1").fetchone())
    assert store.trouble is not None, "nothing was written since"
    await store.write(lambda tx: tx.db.execute("pragma max_page_count = 100000").fetchone())
    await store.write(lambda tx: tx.db.execute("insert into filled values (zeroblob(100000))"))
    assert store.trouble is None


def test_a_second_receiver_does_not_get_the_same_store(store: Store, tmp_path: Path) -> None:
    with pytest.raises(CrowError) as caught:
        Store(tmp_path / "receiver")
    assert caught.value.code == "store_in_use"


async def test_who_asks_after_the_closing_is_told_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "receiver")
    under_way = [asyncio.ensure_future(store.write(lambda _, n=n: n)) for n in range(300)]  # type: ignore[misc]
    await asyncio.sleep(0)
    store.close()
    store.close()
    assert await asyncio.wait_for(asyncio.gather(*under_way), 5) == list(range(300))
    for asked in (store.write(lambda _: None), store.read(lambda _: None), store.read_picture(Pointer(0, 0, 1, 0))):
        with pytest.raises(CrowError) as caught:
            await asyncio.wait_for(asked, 5)
        assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "store_closed")
