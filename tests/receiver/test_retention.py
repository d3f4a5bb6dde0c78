"""Pictures and records go when their time is over, bytes included; what is still needed stays."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ManualClock
from receiver_parts import GAP_US, HOUR_US, PICTURE, SECOND_US, analysis, frame_at, known_camera, put, until

from crow_receiver.cli.main import main
from crow_receiver.ingest.arriving import Arriving
from crow_receiver.ingest.intake import Intake
from crow_receiver.ingest.room import DiskRoom
from crow_receiver.queue.port import INTERACTION_QUEUE, Message
from crow_receiver.retention import RECORDS_AT_ONCE, Retention
from crow_receiver.session import records
from crow_receiver.session.records import BatchLimits, Outcome
from crow_receiver.store import cameras, expiry, frames, ledger, outbox, pictures
from crow_receiver.store.arrivals import StoredFrame
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.ledger import LedgerMinute
from crow_receiver.store.store import Store
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

LIMITS = BatchLimits(frames=10, age_s=30)


@pytest.fixture
def retention(store: Store, clock: ManualClock) -> Retention:
    return Retention(store, clock, pictures_h=72, records_h=168)


async def analysed(store: Store, clock: ManualClock) -> None:
    """Every frame that waits gets its analysis."""
    while waiting := await store.read(lambda db: frames.next_frames(db, clock.now_us())):
        for frame in waiting:
            await store.write(
                lambda tx, f=frame: records.record(  # type: ignore[misc]
                    tx, f.session_id, [Outcome(f, analysis())], LIMITS, clock.now_us()
                )
            )


async def closed(store: Store, session_id: str, clock: ManualClock) -> None:
    assert await store.write(lambda tx: records.close(tx.db, session_id, LIMITS, clock.now_us()))


async def dispatched(store: Store, clock: ManualClock) -> None:
    rows = await outbox.StoredOutbox(store).due(clock.now_us(), 10_000)
    await outbox.StoredOutbox(store).dispatched([row.id for row in rows], clock.now_us())


def picture_bytes(directory: Path) -> int:
    """How many copies of the picture all tests send lie in the segments."""
    return sum(path.read_bytes().count(PICTURE) for path in (directory / "receiver/pictures").glob("*.seg"))


async def rows_of(store: Store, table: str) -> int:
    (count,) = await store.read(lambda db: db.execute(f"select count(*) from {table}").fetchone())
    return int(count)


async def test_a_picture_goes_with_its_bytes_when_its_time_is_over_and_its_neighbour_stays(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path
) -> None:
    till, door = await known_camera(store, "till"), await known_camera(store, "door")
    key = door.key
    await store.write(lambda tx: pictures.set_picture_keep(tx.db, key, 100))
    for seq in range(1, 4):
        for camera in (till, door):
            await put(store, camera, seq, HOUR_US + seq * SECOND_US, clock.now_us())
    kept = await store.read(lambda db: frames.next_frames(db, clock.now_us()))
    await analysed(store, clock)
    clock.advance(72 * 3600 + 1)
    await retention.run_once()
    assert picture_bytes(tmp_path) == 3
    pointer = next(frame.picture for frame in kept if frame.camera == door)
    assert await store.read_picture(pointer) == PICTURE
    clock.advance(28 * 3600)
    await retention.run_once()
    assert picture_bytes(tmp_path) == 0


async def test_a_picture_that_waits_is_never_touched(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path
) -> None:
    camera = await known_camera(store)
    for seq in (1, 2):
        await put(store, camera, seq, HOUR_US + seq * SECOND_US, clock.now_us())
    (first,) = await store.read(lambda db: frames.next_frames(db, clock.now_us()))
    await store.write(
        lambda tx: records.record(tx, first.session_id, [Outcome(first, analysis())], LIMITS, clock.now_us())
    )
    clock.advance(1000 * 3600)
    await retention.run_once()
    assert picture_bytes(tmp_path) == 1
    (second,) = await store.read(lambda db: frames.next_frames(db, clock.now_us()))
    assert await store.read_picture(second.picture) == PICTURE


async def test_a_segment_in_which_nothing_is_kept_is_unlinked(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path
) -> None:
    camera = await known_camera(store)
    await put(store, camera, 1, HOUR_US, clock.now_us())
    await analysed(store, clock)
    await store.write(lambda tx: tx.pictures._close_segment())  # it is full
    await put(store, camera, 2, HOUR_US + SECOND_US, clock.now_us())
    await analysed(store, clock)
    assert len(list((tmp_path / "receiver/pictures").glob("*.seg"))) == 2
    clock.advance(72 * 3600 + 1)
    await retention.run_once()
    assert [path.stem for path in (tmp_path / "receiver/pictures").glob("*.seg")] == ["000000000002"]


async def test_cameras_that_share_segments_lose_them_whole_and_not_picture_by_picture(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each punched segment costs a sync on the thread that acknowledgements wait for."""
    monkeypatch.setattr("crow_receiver.retention.PICTURES_AT_ONCE", 4)
    both = [await known_camera(store, "till"), await known_camera(store, "door")]
    for seq in range(1, 7):
        for camera in both:
            await put(store, camera, seq, HOUR_US + seq * SECOND_US, clock.now_us())
        await store.write(lambda tx: tx.pictures._close_segment())  # each holds one of either
        clock.advance(60)
    await analysed(store, clock)
    punched: list[int] = []
    monkeypatch.setattr(store._pictures, "_erase_in", lambda segment, _: punched.append(segment))
    clock.advance(72 * 3600)
    await retention.run_once()
    assert picture_bytes(tmp_path) == 0
    assert punched == []


async def test_pictures_kept_for_no_time_are_gone_within_seconds_of_their_analysis(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crow_receiver.retention.LOOK_S", 0.02)
    camera = await known_camera(store)
    running = asyncio.create_task(retention.run())
    await store.write(lambda tx: pictures.set_picture_keep(tx.db, camera.key, 0))
    await put(store, camera, 1, HOUR_US, clock.now_us())
    await asyncio.sleep(0.1)
    assert picture_bytes(tmp_path) == 1, "it waits"
    clock.jump(-3600)
    await analysed(store, clock)
    await until(lambda: picture_bytes(tmp_path) == 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_bytes_are_gone_before_the_row_says_so(
    store: Store, clock: ManualClock, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, await known_camera(store), 1, HOUR_US, clock.now_us())
    await analysed(store, clock)
    clock.advance(72 * 3600 + 1)

    def refuse(_: object) -> None:
        raise CrowError(Kind.UNAVAILABLE, "store_unavailable", "Read-only file system")

    monkeypatch.setattr(store._pictures, "erase", refuse)
    with pytest.raises(CrowError):
        await retention.run_once()
    assert await store.read(lambda db: db.execute("select segment is null from frame").fetchall()) == [(0,)]


async def old_session(store: Store, clock: ManualClock, camera: CameraRow, seqs: range) -> StoredFrame:
    for seq in seqs:
        stored = await put(store, camera, seq, HOUR_US + seq * SECOND_US, clock.now_us())
    await analysed(store, clock)
    await closed(store, stored.session_id, clock)
    return stored


async def test_records_go_with_all_that_belongs_to_them_and_their_numbers_stay_as_one_range(
    store: Store, clock: ManualClock, retention: Retention, tmp_path: Path
) -> None:
    camera = await known_camera(store)
    frames_there = RECORDS_AT_ONCE + 30
    await old_session(store, clock, camera, range(1, frames_there + 1))
    await store.write(
        lambda tx: cameras.pass_over(
            tx.db, camera.id, "epoch", frames_there + 1, frames_there + 5, "spool_full", "", clock.now_us()
        )
    )
    await dispatched(store, clock)
    clock.advance(168 * 3600 - 1)
    await retention.run_once()
    assert await rows_of(store, "frame") == frames_there
    clock.advance(2)
    await retention.run_once()
    for table in ("frame", "analysis", "session", "pattern_window", "outbox", "outbox_content", "missing"):
        assert await rows_of(store, table) == 0, table
    expired = await store.read(lambda db: db.execute("select epoch, from_seq, to_seq from expired").fetchall())
    assert expired == [("epoch", 1, frames_there + 5)]
    assert picture_bytes(tmp_path) == 0


async def test_a_session_stays_while_it_is_open_or_one_of_its_messages_waits(
    store: Store, clock: ManualClock, retention: Retention
) -> None:
    camera = await known_camera(store)
    stored = await put(store, camera, 1, HOUR_US, clock.now_us())
    await analysed(store, clock)
    clock.advance(1000 * 3600)
    await retention.run_once()
    assert await rows_of(store, "frame") == 1, "open"
    await closed(store, stored.session_id, clock)
    clock.advance(1000 * 3600)
    await retention.run_once()
    assert await rows_of(store, "frame") == 1, "its messages wait"
    await dispatched(store, clock)
    await retention.run_once()
    assert await rows_of(store, "frame") == 0


async def test_a_frame_for_a_session_that_is_half_gone_comes_again_and_opens_its_own(
    store: Store, clock: ManualClock, retention: Retention
) -> None:
    camera = await known_camera(store)
    await old_session(store, clock, camera, range(1, 6))
    await dispatched(store, clock)
    clock.advance(169 * 3600)
    assert await store.write(lambda tx: expiry.expire_session(tx, camera.id, clock.now_us(), 2))
    with pytest.raises(CrowError) as caught:
        await put(store, camera, 6, HOUR_US + 6 * SECOND_US, clock.now_us())
    assert caught.value.code == "session_expiring"
    assert caught.value.retryable
    assert store.trouble is None, "the disk is fine"
    await retention.run_once()
    late = await put(store, camera, 6, HOUR_US + 6 * SECOND_US, clock.now_us())
    assert late.frame_index == 0


async def test_a_session_that_is_half_gone_goes_even_when_records_are_to_be_kept_longer_now(
    store: Store, clock: ManualClock, retention: Retention
) -> None:
    """Its camera's next frames, and with them the whole stream, would be sent back for as long."""
    camera = await known_camera(store)
    await old_session(store, clock, camera, range(1, 6))
    await dispatched(store, clock)
    clock.advance(100 * 3600)
    assert await store.write(lambda tx: expiry.expire_session(tx, camera.id, clock.now_us(), 2))
    await retention.run_once()
    assert await rows_of(store, "session") == 0


async def test_a_transaction_takes_no_more_than_its_share(store: Store, clock: ManualClock) -> None:
    camera = await known_camera(store)
    await old_session(store, clock, camera, range(1, 8))
    await dispatched(store, clock)
    left = []
    while await store.write(lambda tx: expiry.expire_session(tx, camera.id, clock.now_us() + 1, 3)):
        left.append(await rows_of(store, "frame"))
    assert left == [4, 1, 0]


async def test_positions_are_kept_for_a_year_after_their_last_use(
    store: Store, clock: ManualClock, retention: Retention
) -> None:
    camera = await known_camera(store)
    await old_session(store, clock, camera, range(1, 4))
    await dispatched(store, clock)
    clock.advance(360 * 24 * 3600)
    await retention.run_once()
    assert await store.read(lambda db: cameras.durable_seq(db, camera.id, "epoch")) == 3
    clock.advance(10 * 24 * 3600)
    await retention.run_once()
    assert await rows_of(store, "position") == 0
    assert await rows_of(store, "expired") == 0


async def test_what_the_receiver_holds_is_analysed_and_dispatched_while_the_disk_has_no_room(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    class Listener:
        def stored(self, camera: CameraRow, stored: StoredFrame) -> None:
            pass

        def covered(self, camera: CameraRow, session_ids: Sequence[str]) -> None:
            pass

    free = shutil.disk_usage(tmp_path).free
    short, plenty = DiskRoom(tmp_path, free * 2), DiskRoom(tmp_path, 0)
    camera = await known_camera(store)
    full = Intake(store, Listener(), clock, GAP_US, short)
    arriving = Arriving()
    arriving.add(full.checked(camera, frame_at(HOUR_US, 1)))
    for bring in (
        lambda: full.store_stream("epoch", arriving),
        lambda: full.single_frame(camera, "rest", frame_at(HOUR_US, 1)),
    ):
        with pytest.raises(CrowError) as caught:
            await bring()
        assert caught.value.kind is Kind.UNAVAILABLE
        assert "MiB left" in caught.value.message
    assert "no frames are taken" in (short.shortage() or "")
    await Intake(store, Listener(), clock, GAP_US, plenty).store_stream("epoch", arriving)
    assert plenty.shortage() is None
    await analysed(store, clock)
    message = Message(INTERACTION_QUEUE, "m", b"{}", {})
    await store.write(lambda tx: outbox.put(tx.db, "s", message, clock.now_us()))
    assert await rows_of(store, "frame where state = 'analysed'") == 1


def test_a_disk_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    assert DiskRoom(tmp_path / "gone", 1).shortage() is not None


async def test_the_command_tells_and_changes_how_long_pictures_are_kept_beside_a_running_receiver(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    await known_camera(store)

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["camera", *words])
        return done.exit_code, done.output

    assert "72" in run("list")[1]
    assert run("retention", "acme/shop/till", "0.5")[0] == 0
    (keep,) = await store.read(lambda db: pictures.picture_keeps(db, 72))
    assert (keep.camera, keep.hours, keep.own) == (CameraKey("acme", "shop", "till"), 0.5, True)
    assert '"pictures_h": 0.5' in run("list", "--json")[1]
    assert run("retention", "acme/shop/till", "default")[0] == 0
    assert not (await store.read(lambda db: pictures.picture_keeps(db, 72)))[0].own
    assert run("retention", "acme/shop/till", "-1")[0] == 2
    assert run("retention", "acme/shop/attic", "1")[0] == 2


def test_the_searches_of_retention_use_their_indexes(store: Store) -> None:
    plans = []
    db: sqlite3.Connection = store._reading
    for statement in (
        pictures._OLDEST,
        pictures._DUE,
        expiry._NEXT_SESSION,
        expiry._OLD_MISSING,
        "delete from session where id = 's'",
    ):
        plans += [row[3] for row in db.execute(f"explain query plan {statement}", (1,) * statement.count("?"))]
    scans = [plan for plan in plans if plan.startswith("SCAN") and not plan.startswith(("SCAN json_each", "SCAN (sub"))]
    assert not scans, plans


async def test_what_became_of_samples_goes_with_the_records_of_its_time(
    store: Store, clock: ManualClock, retention: Retention
) -> None:
    camera = await known_camera(store)
    await put(store, camera, 1, HOUR_US, clock.now_us())
    (frame,) = await store.read(lambda db: frames.next_frames(db, clock.now_us()))
    minutes = [LedgerMinute(HOUR_US + number * 60 * SECOND_US, 1, 1, 1, {}, {}, []) for number in (-61, 0, 1)]
    await store.write(lambda tx: ledger.store_minutes(tx.db, camera.id, minutes, clock.now_us()))
    clock.advance(1000 * 3600)
    await retention.run_once()
    assert await rows_of(store, "ledger") == 2, "its session still waits for the analysis of a frame"
    await analysed(store, clock)
    await closed(store, frame.session_id, clock)
    await dispatched(store, clock)
    clock.advance(1000 * 3600)
    for _ in range(2):
        await retention.run_once()
    assert await rows_of(store, "ledger") == 0
