"""The hand-over of fresh frames into the spool."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crow_daemon.capture.outcome import Dropped
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_daemon.spool.thread import GROUP_BYTES, MAX_WAITING_BYTES, MAX_WAITING_FRAMES, SpoolThread
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Frame, TimeSource


def frame(size: int = 100) -> Frame:
    return Frame.of_picture("till", 1, TimeSource.ARRIVAL, 4, 3, bytes(size))


def fill(thread: SpoolThread, size: int = 100) -> int:
    """Offers frames until no more are asked for; how many."""
    offered = 0
    while thread.has_room:
        assert thread.offer(frame(size))
        offered += 1
    return offered


@pytest.fixture
async def thread(tmp_path: Path) -> AsyncIterator[SpoolThread]:
    made = SpoolThread(lambda: Spool(tmp_path, SpoolLimits(1 << 20)))
    await made.start()
    yield made
    await made.close()


async def written(thread: SpoolThread) -> None:
    thread.finish()
    await asyncio.wait_for(thread.write_offered(), 10)


def trouble(thread: SpoolThread) -> str | None:
    return thread.trouble


async def test_what_was_offered_before_the_end_is_stored(thread: SpoolThread) -> None:
    assert all(thread.offer(frame()) for _ in range(100))
    await written(thread)
    assert await thread.call(lambda spool: spool.waiting()) == {"till": 100}


async def test_while_the_disk_is_slow_no_more_is_asked_for_and_what_was_asked_for_is_taken(thread: SpoolThread) -> None:
    assert fill(thread) == MAX_WAITING_FRAMES
    assert thread.offer(frame()), "it had been promised"
    await written(thread)
    assert thread.has_room


async def test_the_last_capture_time_counts_frames_that_are_not_on_disk_yet(thread: SpoolThread) -> None:
    assert thread.last_capture_us("till") is None
    assert thread.offer(replace(frame(), capture_us=2))
    assert thread.offer(replace(frame(), capture_us=3))
    assert thread.last_capture_us("till") == 3
    await written(thread)
    assert thread.last_capture_us("till") == 3


async def test_a_recording_waits_while_the_spool_is_half_full_and_a_live_camera_does_not(thread: SpoolThread) -> None:
    await thread.call(lambda spool: spool.append([frame(600_000)]))
    assert not thread.takes_recordings
    assert thread.has_room
    await thread.call(lambda spool: spool.release(spool.epochs()[0], {"till": 1}))
    assert thread.takes_recordings


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.EXHAUSTED, Dropped.SPOOL_FULL), (Kind.UNAVAILABLE, Dropped.SPOOL_UNAVAILABLE)],
)
async def test_a_disk_that_refuses_costs_no_frame_that_was_taken_and_what_is_not_taken_has_its_reason(
    thread: SpoolThread, monkeypatch: pytest.MonkeyPatch, kind: Kind, reason: Dropped
) -> None:
    refuses = True

    def append(spool: Spool, frames: list[Frame]) -> list[Frame]:
        if refuses:
            raise CrowError(kind, "spool_full", "No space left on device")
        return real(spool, frames)

    real = Spool.append
    monkeypatch.setattr(Spool, "append", append)
    monkeypatch.setattr("crow_daemon.spool.thread.RETRY_S", 0.01)
    assert thread.refusal is Dropped.OVERLOAD
    fill(thread)
    writing = asyncio.create_task(thread.write_offered())
    async with asyncio.timeout(10):
        while trouble(thread) != "No space left on device":
            await asyncio.sleep(0)
    assert not thread.has_room
    assert thread.refusal is reason
    refuses = False
    thread.finish()
    await asyncio.wait_for(writing, 10)
    assert trouble(thread) is None
    assert await thread.call(lambda spool: spool.waiting()) == {"till": MAX_WAITING_FRAMES}


async def test_large_pictures_are_bounded_in_bytes_in_memory_and_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []

    def append(_: Spool, frames: list[Frame]) -> list[Frame]:
        groups.append(sum(len(frame.payload) for frame in frames))
        return frames

    monkeypatch.setattr(Spool, "append", append)
    thread = SpoolThread(lambda: Spool(tmp_path, SpoolLimits(1 << 40)))
    await thread.start()
    taken = fill(thread, MAX_PICTURE_BYTES)
    assert taken * MAX_PICTURE_BYTES == MAX_WAITING_BYTES
    await written(thread)
    assert max(groups) <= GROUP_BYTES + MAX_PICTURE_BYTES
    assert sum(groups) == taken * MAX_PICTURE_BYTES
    await thread.close()


async def test_nothing_is_taken_after_the_end(thread: SpoolThread) -> None:
    await written(thread)
    assert not thread.offer(frame())
