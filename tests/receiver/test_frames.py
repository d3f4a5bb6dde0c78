"""Every frame is stored once, in the one session that its capture time belongs to."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest
from conftest import ManualClock
from receiver_parts import GAP_US, HOUR_US, SECOND_US, frame_at, known_camera, put

from crow_receiver.ingest.arriving import Arriving
from crow_receiver.ingest.intake import Intake, checked_frame
from crow_receiver.store import cameras, frames, sessions
from crow_receiver.store.arrivals import Arrival, Missing, store_single, store_stream
from crow_receiver.store.frames import analysis_backlog, next_frames
from crow_receiver.store.store import Store
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame

LAST_OF_HOUR = HOUR_US + 3_600 * SECOND_US - 1


class Nobody:
    """Who does not want to know."""

    def stored(self, _camera: object, _stored: object) -> None: ...

    def covered(self, _camera: object, _session_ids: object) -> None: ...


def waiting_indexes(db: sqlite3.Connection) -> list[int]:
    rows = db.execute("select frame_index from frame where state = 'pending' order by id")
    return [frame_index for (frame_index,) in rows]


async def test_a_frame_that_a_stream_brings_twice_is_stored_once(store: Store) -> None:
    camera = await known_camera(store)
    arrivals = [Arrival(camera, frame_at(HOUR_US + seq, seq), HOUR_US) for seq in (1, 2, 2, 1, 3)]
    for expected in ([0, 1, 2], []):
        stored = await store.write(lambda tx: store_stream(tx, "epoch", arrivals, GAP_US))
        assert [place.frame_index for _, place in stored] == expected
    assert await store.read(waiting_indexes) == [0, 1, 2]


async def test_a_frame_uploaded_twice_is_stored_once_and_told_where(store: Store) -> None:
    arrival = Arrival(await known_camera(store), frame_at(HOUR_US, 7), HOUR_US)
    first, again = [await store.write(lambda tx: store_single(tx, "rest", arrival, GAP_US)) for _ in range(2)]
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (first.session_id, first.frame_index) == (again.session_id, again.frame_index)
    assert await store.read(waiting_indexes) == [0]


async def test_a_stream_never_steps_over_a_number(store: Store) -> None:
    camera = await known_camera(store)
    for seqs in ((2,), (1, 3), (1, 2, 4)):
        arrivals = [Arrival(camera, frame_at(HOUR_US, seq), HOUR_US) for seq in seqs]
        with pytest.raises(CrowError, match="some between failed"):
            await store.write(lambda tx: store_stream(tx, "epoch", arrivals, GAP_US))  # noqa: B023
    assert await store.read(waiting_indexes) == []


async def test_what_arrives_together_is_stored_as_if_it_came_one_by_one(store: Store) -> None:
    """Several cameras, an hour's end, silences, times that run backwards, numbers without a frame."""
    draw = random.Random(4)
    line: list[tuple[int, int, int]] = []  # camera, number, capture time
    for seq in range(1, 60):
        jump_us = draw.choice([1, 1, 1, 30, -40, GAP_US // SECOND_US + 5, -1000]) * SECOND_US
        line += [(camera, seq, LAST_OF_HOUR - 900 * SECOND_US + seq * 5 * SECOND_US + jump_us) for camera in (0, 1)]

    async def stored(site: str, group: int) -> list[tuple[object, ...]]:
        rows = [await known_camera(store, f"{site}{camera}") for camera in (0, 1)]
        arrived = [
            Missing(rows[camera], seq, seq, "spool_full", "let go", HOUR_US + place)
            if seq % 7 == 0
            else Arrival(rows[camera], frame_at(capture_us, seq), HOUR_US + place)
            for place, (camera, seq, capture_us) in enumerate(line)
        ]
        for start in range(0, len(arrived), group):
            part = arrived[start : start + group]
            await store.write(lambda tx: store_stream(tx, site, part, GAP_US))  # noqa: B023
        return await store.read(
            lambda db: db.execute(
                f"""select c.camera_id, seq, replace(session_id, '{site}', ''), frame_index, s.frames,
                       s.first_capture_us, s.last_capture_us, s.last_arrival_us, p.durable_seq,
                       (select count(*) from missing where camera = c.id and epoch = p.epoch)
                   from frame as f join camera as c on c.id = f.camera join session as s on s.id = session_id
                       join position as p on p.camera = c.id where f.epoch = '{site}' order by c.camera_id, seq"""
            ).fetchall()
        )

    alone, together = await stored("east", 1), await stored("west", 13)
    assert len(alone) == 102
    assert [row[1:] for row in alone] == [row[1:] for row in together]
    sums = "count(*), min(capture_us), max(capture_us)"
    of_frames, of_sessions = await store.read(
        lambda db: (
            db.execute(f"select session_id, {sums} from frame group by session_id order by 1").fetchall(),
            db.execute("select id, frames, first_capture_us, last_capture_us from session order by 1").fetchall(),
        )
    )
    assert of_frames == of_sessions


async def test_a_session_is_named_after_its_camera_and_first_frame(store: Store) -> None:
    stored = await put(store, await known_camera(store), 1, HOUR_US + 1_234_567)
    assert stored.session_id == "acme.shop.till.20270115T080001234Z"


@pytest.mark.parametrize(
    ("offset_us", "same"),
    [(GAP_US, True), (GAP_US + 1, False), (LAST_OF_HOUR - HOUR_US, False)],
)
async def test_a_silence_longer_than_the_gap_begins_a_new_session(store: Store, offset_us: int, same: bool) -> None:
    camera = await known_camera(store)
    first = await put(store, camera, 1, HOUR_US)
    second = await put(store, camera, 2, HOUR_US + offset_us)
    assert (first.session_id == second.session_id) is same


async def test_the_hour_ends_a_session_though_footage_goes_on(store: Store) -> None:
    camera = await known_camera(store)
    last = await put(store, camera, 1, LAST_OF_HOUR)
    next_hour = await put(store, camera, 2, LAST_OF_HOUR + 1)
    assert last.session_id != next_hour.session_id
    assert next_hour.session_id.endswith("T090000000Z")


async def test_a_late_frame_goes_to_the_session_it_belongs_to(store: Store) -> None:
    camera = await known_camera(store)
    early = await put(store, camera, 1, HOUR_US)
    later = await put(store, camera, 2, HOUR_US + 1_000 * SECOND_US)
    late = await put(store, camera, 3, HOUR_US + 10 * SECOND_US)
    assert late.session_id == early.session_id != later.session_id


async def test_any_order_of_arrival_gives_the_same_grouping(store: Store) -> None:
    """Frames a second apart, two hours, one silence: whatever the order, each stretch is one session."""
    times = [HOUR_US + s * SECOND_US for s in [*range(0, 60, 5), *range(1000, 1060, 5), *range(3600, 3660, 5)]]
    groupings = []
    for index in range(3):
        camera = await known_camera(store, f"cam{index}")
        order = times[:]
        random.Random(index).shuffle(order)
        placed = {}
        for seq, time_us in enumerate(order, 1):
            placed[time_us] = (await put(store, camera, seq, time_us)).session_id
        names = list(dict.fromkeys(placed[time_us] for time_us in times))
        groupings.append([names.index(placed[time_us]) for time_us in times])
    assert groupings[0] == groupings[1] == groupings[2]
    assert max(groupings[0]) == 2


async def test_a_stream_cannot_step_over_frames_that_failed(store: Store) -> None:
    camera = await known_camera(store)
    await put(store, camera, 1, HOUR_US)
    with pytest.raises(CrowError) as caught:
        await put(store, camera, 3, HOUR_US)
    assert caught.value.kind is Kind.CONFLICT
    assert await store.read(lambda db: cameras.durable_seq(db, camera.id, "epoch")) == 1
    assert await store.read(waiting_indexes) == [0]


async def test_work_that_raises_takes_back_only_its_own(store: Store) -> None:
    camera = await known_camera(store)
    results = await asyncio.gather(
        put(store, camera, 1, HOUR_US), put(store, camera, 5, HOUR_US), put(store, camera, 2, HOUR_US),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[1], CrowError)
    assert await store.read(waiting_indexes) == [0, 1]


async def test_next_is_the_oldest_frame_of_each_camera_that_may_be_tried_now(store: Store) -> None:
    busy, quiet = await known_camera(store, "busy"), await known_camera(store, "quiet")
    for seq in range(1, 6):
        await put(store, busy, seq, HOUR_US + seq * SECOND_US)
    await put(store, quiet, 1, HOUR_US)
    found = await store.read(lambda db: next_frames(db, HOUR_US))
    assert {frame.camera: frame.frame_index for frame in found} == {busy: 0, quiet: 0}
    (first,) = [frame for frame in found if frame.camera == busy]
    await store.write(lambda tx: frames.put_off(tx.db, first.id, "worker died", HOUR_US + 1))
    found = await store.read(lambda db: next_frames(db, HOUR_US))
    assert {frame.camera: frame.frame_index for frame in found} == {busy: 1, quiet: 0}
    found = await store.read(lambda db: next_frames(db, HOUR_US + 1))
    assert {frame.camera: (frame.frame_index, frame.attempts) for frame in found} == {busy: (0, 1), quiet: (0, 0)}


async def test_a_try_put_off_by_a_clock_that_was_wrong_is_due(store: Store) -> None:
    await put(store, await known_camera(store), 1, HOUR_US)
    await store.write(lambda tx: frames.put_off(tx.db, 1, "worker died", HOUR_US + 3600 * SECOND_US))
    assert len(await store.read(lambda db: next_frames(db, HOUR_US))) == 1


async def test_next_is_also_the_oldest_late_frame_of_each_camera(store: Store) -> None:
    camera = await known_camera(store)
    for seq, late in enumerate((True, False, True, False), 1):
        await put(store, camera, seq, HOUR_US + seq * SECOND_US, late=late)
    found = await store.read(lambda db: next_frames(db, HOUR_US))
    assert {frame.frame_index: frame.late for frame in found} == {0: True, 1: False}
    (backlog,) = await store.read(analysis_backlog)
    assert (backlog.camera, backlog.waiting, backlog.late_waiting) == (camera, 2, 2)


async def test_seconds_behind_are_reckoned_from_the_arrival_of_the_oldest_of_each_line(store: Store) -> None:
    camera = await known_camera(store)
    assert [(row.behind_s(0), row.late_behind_s(0)) for row in await store.read(analysis_backlog)] == [(0, 0)]
    for seq, (late, arrival_s) in enumerate(((True, 10), (False, 20), (False, 30), (True, 40)), 1):
        await put(store, camera, seq, HOUR_US + seq, HOUR_US + arrival_s * SECOND_US, late=late)
    (backlog,) = await store.read(analysis_backlog)
    assert backlog.behind_s(HOUR_US + 50 * SECOND_US) == 30
    assert backlog.late_behind_s(HOUR_US + 50 * SECOND_US) == 40
    assert backlog.behind_s(HOUR_US) == 0


@pytest.mark.parametrize(("age_s", "late"), [(0, 0), (60, 0), (61, 1), (-3600, 0)])
async def test_a_frame_that_comes_a_minute_after_its_capture_is_late(store: Store, age_s: int, late: int) -> None:
    clock = ManualClock()
    intake = Intake(store, Nobody(), clock, GAP_US)
    camera = await known_camera(store)
    capture_us = clock.now_us() - age_s * SECOND_US
    await intake.single_frame(camera, "rest", frame_at(capture_us, 1))
    for epoch, backlog in (("epoch", False), ("sealed", True)):
        arriving = Arriving()
        arriving.add(intake.checked(camera, frame_at(capture_us, 1), backlog=backlog))
        await intake.store_stream(epoch, arriving)
    rows = await store.read(lambda db: db.execute("select epoch, late from frame").fetchall())
    assert dict(rows) == {"epoch": late, "rest": late, "sealed": 1}


async def test_what_was_stored_is_there_after_a_restart(store: Store, tmp_path: Path) -> None:
    camera = await known_camera(store)
    stored = await put(store, camera, 1, HOUR_US)
    store.close()
    again = Store(tmp_path / "receiver")
    row = await again.read(lambda db: sessions.find_session(db, stored.session_id))
    (frame,) = await again.read(lambda db: next_frames(db, HOUR_US))
    assert row is not None
    assert (row.frames, row.is_open) == (1, True)
    assert await again.read_picture(frame.picture) == frame_at(HOUR_US, 1).payload
    again.close()


@pytest.mark.parametrize(
    ("capture_us", "code"),
    [(0, "bad_time"), (HOUR_US + 2 * 86_400 * SECOND_US, "bad_time")],
)
def test_a_clock_that_was_never_set_is_refused(capture_us: int, code: str) -> None:
    with pytest.raises(CrowError) as caught:
        checked_frame(frame_at(capture_us, 1), HOUR_US)
    assert caught.value.code == code


def test_the_size_comes_from_the_picture_not_from_the_sender() -> None:
    lying = frame_at(HOUR_US, 1)
    checked = checked_frame(Frame(**{f: getattr(lying, f) for f in lying.__slots__} | {"width": 9}), HOUR_US)
    assert (checked.width, checked.height) == (64, 48)


async def test_numbers_that_have_an_end_keep_it_when_a_later_gap_covers_them_too(store: Store) -> None:
    """The acknowledgement of 1 to 3 was lost, and then the spool let 1 to 6 go."""
    camera = await known_camera(store)
    await put(store, camera, 1, HOUR_US)

    def gap(to_seq: int) -> None:
        tx = store._transaction
        cameras.pass_over(tx.db, camera.id, "epoch", 1, to_seq, "spool_full", "", HOUR_US)

    for to_seq in (3, 6, 6):
        await store.write(lambda _, to_seq=to_seq: gap(to_seq))  # type: ignore[misc]
    missing = await store.read(lambda db: db.execute("select from_seq, to_seq from missing").fetchall())
    assert missing == [(2, 3), (4, 6)]
    assert await store.read(lambda db: cameras.durable_seq(db, camera.id, "epoch")) == 6
