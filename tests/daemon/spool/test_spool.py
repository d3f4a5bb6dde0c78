"""The spool's promises: durable before promised, bounded, every number accounted for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ManualClock
from spool_parts import ROOM, contents, frame, hole_numbers, segments, seqs

from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.limits import DropPolicy, SpoolLimits
from crow_daemon.spool.spool import START, Oldest, Position, Spool
from crow_shared.errors import CrowError, Kind


def test_numbers_rise_by_one_per_camera_across_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    first = spool.append([frame("till"), frame("door"), frame("till")])
    assert [(f.camera_id, f.seq) for f in first] == [("till", 1), ("door", 1), ("till", 2)]
    (epoch,) = spool.epochs()
    spool.release(epoch, {"till": 2})
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert again.epochs() == [epoch]
    assert [f.seq for f in again.append([frame("till"), frame("door")])] == [3, 2]
    again.close()


def test_frames_come_back_whole_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=700)
    stored = [spool.append([frame("till", bytes([index]) * 100, index)])[0] for index in range(20)]
    (epoch,) = spool.epochs()
    assert len(segments(tmp_path)) > 3
    first = spool.read(epoch, START, 15)
    rest = spool.read(epoch, first[-1].position, 15)
    assert [spooled.frame for spooled in first + rest] == stored == contents(spool)
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert contents(again) == stored
    again.close()


def test_a_released_frame_is_not_read_again_and_its_segments_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    for _ in range(10):
        spool.append([frame(payload=b"x" * 300)])
    (epoch,) = spool.epochs()
    spool.release(epoch, {"till": 7})
    assert seqs(spool) == [8, 9, 10]
    assert len(segments(tmp_path)) == 3
    assert spool.stored_bytes == sum(path.stat().st_size for path in segments(tmp_path))
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert seqs(again) == [8, 9, 10]
    assert again.marks(epoch)[0].acked_seq == 7
    again.close()


def test_numbers_are_not_given_out_again_when_all_frames_are_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    (epoch,) = spool.epochs()
    for seq in range(1, 9):
        spool.append([frame(payload=b"x" * 300)])
        spool.release(epoch, {"till": seq})
    assert len(segments(tmp_path)) == 1
    assert spool.stored_bytes < 300
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert again.append([frame()])[0].seq == 9
    assert again.lost() == []
    again.close()


def test_the_last_capture_time_outlives_the_frame_and_its_epoch(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    (epoch,) = spool.epochs()
    spool.append([frame("till", b"x" * 300, 7_000_000), frame("door", b"x", 5_000_000)])
    spool.start_epoch()
    spool.append([frame("door", b"x" * 300, 6_000_000)])
    spool.release(epoch, {"till": 1, "door": 1})
    spool.append([frame("other", b"x" * 300)])
    for opened in (spool, None):
        again = opened or Spool(tmp_path, ROOM)
        assert epoch not in again.epochs()
        assert [again.last_capture_us(name) for name in ("till", "door", "none")] == [7_000_000, 6_000_000, None]
        again.close()


def test_the_bound_holds_and_what_was_let_go_is_accounted_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(10_000), segment_bytes=2_000)
    for _ in range(100):
        spool.append([frame(camera, b"x" * 500) for camera in ("till", "door")])
        assert sum(path.stat().st_size for path in segments(tmp_path)) == spool.stored_bytes <= 11_500
    (epoch,) = spool.epochs()
    for camera in ("till", "door"):
        left = seqs(spool, camera)
        (lost,) = [lost for lost in spool.lost() if lost.camera_id == camera]
        assert left == list(range(left[0], 101))
        assert (lost.reason, lost.frames) == (HoleReason.SPOOL_FULL, left[0] - 1)
        (hole,) = spool.holes(epoch, camera, 1, 100)  # one, however long the receiver was away
        assert (hole.from_seq, hole.to_seq) == (1, left[0] - 1)
    before = (spool.lost(), contents(spool))
    spool.close()
    again = Spool(tmp_path, SpoolLimits(10_000), segment_bytes=2_000)
    assert (again.lost(), contents(again)) == before
    again.close()


def test_with_drop_newest_what_waits_stays_and_what_comes_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(10_000, drop=DropPolicy.NEWEST), segment_bytes=2_000)
    stored = 0
    with pytest.raises(CrowError) as caught:
        while True:
            stored = spool.append([frame(payload=b"x" * 500)])[0].seq
    assert caught.value.kind is Kind.EXHAUSTED
    assert 10 < stored < 20
    assert seqs(spool) == list(range(1, stored + 1))
    assert spool.lost() == []
    spool.release(spool.epochs()[0], {"till": 10})
    assert spool.append([frame()])[0].seq == stored + 1
    spool.close()


def test_frames_that_waited_too_long_are_given_up(tmp_path: Path, clock: ManualClock) -> None:
    spool = Spool(tmp_path, SpoolLimits(1 << 20, max_age_s=3600), clock)
    for _ in range(6):
        spool.append([frame()])
        clock.advance(1000)
    (epoch,) = spool.epochs()
    assert seqs(spool) == [3, 4, 5, 6]
    clock.advance(10_000)
    spool.let_go_aged()
    assert seqs(spool) == []
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.SPOOL_AGE, 6)]
    assert hole_numbers(spool, epoch) == [1, 2, 3, 4, 5, 6]
    spool.close()
    again = Spool(tmp_path, SpoolLimits(1 << 20, max_age_s=3600), clock)
    assert hole_numbers(again, epoch) == [1, 2, 3, 4, 5, 6]
    assert again.append([frame()])[0].seq == 7
    again.close()


def test_the_oldest_frame_that_waits_is_known_in_each_epoch(tmp_path: Path, clock: ManualClock) -> None:
    spool = Spool(tmp_path, ROOM, clock, segment_bytes=300)
    first = spool.epochs()[0]
    assert spool.oldest(first) is None
    spooled_us = []
    for index in range(6):
        spooled_us.append(clock.now_us())
        spool.append([frame("till" if index else "door", b"x" * 200, capture_us=index)])
        clock.advance(1)
    assert spool.oldest(first) == Oldest(0, spooled_us[0])
    spool.release(first, {"till": 3})
    assert spool.oldest(first) == Oldest(0, spooled_us[0])
    spool.release(first, {"door": 1})
    assert spool.oldest(first) == Oldest(4, spooled_us[4])
    second = spool.start_epoch()
    spool.append([frame(capture_us=77)])
    assert spool.oldest(second) == Oldest(77, clock.now_us())
    spool.release(first, {"till": 5})
    assert spool.oldest(first) is None
    spool.close()


def test_a_sealed_epoch_drains_beside_the_one_being_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    (first,) = spool.epochs()
    assert spool.start_epoch() == first  # nothing to seal yet
    for _ in range(4):
        spool.append([frame(payload=b"old" * 60)])
    second = spool.start_epoch()
    assert spool.append([frame(payload=b"new")])[0].seq == 1
    spool.release(second, {"till": 1})
    spool.release(first, {"till": 2})
    spool.close()
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    assert spool.epochs() == [first, second]
    assert spool.waiting(first) == {"till": 2} == spool.waiting()
    assert [spooled.frame.seq for spooled in spool.read(first, START, 9)] == [3, 4]
    assert spool.read(second, START, 9) == []
    assert [(mark.last_seq, mark.acked_seq) for mark in spool.totals()] == [(5, 3)]
    spool.release(first, {"till": 4})
    assert spool.epochs() == [second]
    assert len(segments(tmp_path)) == 1
    assert [(mark.last_seq, mark.acked_seq) for mark in spool.totals()] == [(5, 5)]
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(mark.last_seq, mark.acked_seq) for mark in again.totals()] == [(5, 5)]
    assert again.append([frame()])[0].seq == 2
    again.close()


def test_a_given_up_frame_is_a_hole_with_its_reason_and_is_counted_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame() for _ in range(5)])
    (epoch,) = spool.epochs()
    assert spool.give_up(epoch, Hole("till", 2, 3, HoleReason.REFUSED, "no picture")) == 2
    assert spool.give_up(epoch, Hole("till", 3, 4, HoleReason.CORRUPT, "later")) == 1
    assert spool.give_up(epoch, Hole("till", 1, 9, HoleReason.REFUSED, "again")) == 2
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.CORRUPT, 1), (HoleReason.REFUSED, 4)]
    holes = spool.holes(epoch, "till", 1, 9)
    assert [(hole.from_seq, hole.to_seq, hole.reason) for hole in holes] == [
        (1, 3, HoleReason.REFUSED),
        (4, 4, HoleReason.CORRUPT),
        (5, 5, HoleReason.REFUSED),
    ]
    assert spool.waiting() == {}
    spool.release(epoch, {"till": 4})
    assert hole_numbers(spool, epoch) == [5]
    spool.close()


def test_erased_pictures_are_gone_from_the_disk_released_ones_too(tmp_path: Path) -> None:
    secrets = [bytes([65 + index]) * 5000 for index in range(6)]
    spool = Spool(tmp_path, ROOM)
    spool.append([frame("door" if index == 5 else "till", secrets[index], index * 10) for index in range(6)])
    (epoch,) = spool.epochs()
    spool.release(epoch, {"till": 2})
    assert spool.erase("till", 10, 40) == 3
    on_disk = b"".join(path.read_bytes() for path in segments(tmp_path))
    assert [secret in on_disk for secret in secrets] == [True, False, False, False, True, True]
    assert hole_numbers(spool, epoch) == [3, 4]
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.ERASED, 2)]
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(f.camera_id, f.seq) for f in contents(again)] == [("till", 5), ("door", 1)]
    assert hole_numbers(again, epoch) == [3, 4]
    again.close()


def test_a_second_daemon_does_not_get_the_same_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    with pytest.raises(CrowError) as caught:
        Spool(tmp_path, ROOM)
    assert caught.value.kind is Kind.CONFLICT
    spool.close()


def test_only_the_owner_may_read_pictures(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", ROOM)
    spool.append([frame()])
    spool.close()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").rglob("*"))


def test_a_spool_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CrowError) as caught:
        Spool(tmp_path / "file" / "spool", ROOM)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_positions_are_in_order_of_spooling_over_all_cameras(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    for index in range(10):
        spool.append([frame(("till", "door")[index % 2], capture_us=index, payload=b"x" * 150)])
    found = spool.read(spool.epochs()[0], START, 99)
    assert [spooled.frame.capture_us for spooled in found] == list(range(10))
    assert START < found[0].position < found[-1].position < Position(1 << 40, 0)
    assert [spooled.position for spooled in found] == sorted({spooled.position for spooled in found})
    spool.close()


WRITER = """
import sys
from pathlib import Path
import structlog
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.frame import Frame, TimeSource
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
spool = Spool(Path(sys.argv[1]), SpoolLimits(1 << 30), segment_bytes=100_000)
while True:
    stored = spool.append([Frame.of_picture("till", 1, TimeSource.ARRIVAL, 4, 3, b"x" * 3000) for _ in range(4)])
    print(spool.epochs()[-1], stored[-1].seq, flush=True)
"""


def test_what_was_promised_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 while writing, again and again: every number that was printed is there, intact and in order."""
    promised: dict[str, int] = {}
    for kill_after in (1, 7, 20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(kill_after):
                epoch, seq = writer.stdout.readline().split()
                promised[epoch] = int(seq)
            os.kill(writer.pid, signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                epoch, _, seq = line.partition(" ")
                promised[epoch] = int(seq)
    spool = Spool(tmp_path, SpoolLimits(1 << 30))
    for epoch, seq in promised.items():
        found = [spooled.frame.seq for spooled in spool.read(epoch, START, 100_000)]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= seq
    assert not spool.lost()
    spool.close()
