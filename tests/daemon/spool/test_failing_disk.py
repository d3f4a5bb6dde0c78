"""What the disk did not confirm is not there, and what it does not read is not given up at once."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from spool_parts import ROOM, contents, frame, segments, seqs

from crow_daemon.spool.accounts import HoleReason
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.errors import CrowError, Kind


class Disk:
    """Lets the next calls of a function of `os` fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.calls: list[int] = []

    def fails(self, function: str, times: int) -> None:
        real = getattr(os, function)
        left = times

        def failing(*arguments: int) -> object:
            nonlocal left
            if function == "fdatasync":
                self.calls.append(os.fstat(arguments[0]).st_ino)
            if not left:
                return real(*arguments)
            left -= 1
            raise OSError(errno.EIO, "Input/output error")

        self.patch.setattr(os, function, failing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_file_whose_sync_failed_is_never_synced_again_and_the_frames_go_to_a_fresh_one(
    tmp_path: Path, disk: Disk
) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"first")])
    disk.fails("fdatasync", 1)
    assert spool.append([frame(payload=b"second")])[0].seq == 2
    assert len(disk.calls) == 3
    assert disk.calls.count(disk.calls[0]) == 1
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(f.seq, f.payload) for f in contents(again)] == [(1, b"first"), (2, b"second")]
    assert not again.lost()
    again.close()


def test_a_number_whose_frame_the_disk_did_not_confirm_is_given_to_the_next_one_alone(
    tmp_path: Path, disk: Disk
) -> None:
    """Even when the refused frame's bytes did reach the disk and cannot be cut off."""
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"first")])
    disk.fails("ftruncate", 99)
    disk.fails("fdatasync", 2)
    with pytest.raises(CrowError) as caught:
        spool.append([frame(payload=b"refused") for _ in range(3)])
    assert caught.value.kind is Kind.UNAVAILABLE
    assert seqs(spool) == [1]
    assert spool.append([frame(payload=b"second")])[0].seq == 2
    expected = [(1, b"first"), (2, b"second")]
    assert [(f.seq, f.payload) for f in contents(spool)] == expected
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(f.seq, f.payload) for f in contents(again)] == expected
    assert again.append([frame()])[0].seq == 3
    assert not again.lost()
    again.close()


def test_what_is_not_read_is_tried_again_and_only_then_given_up(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(), frame(), frame()])
    assert seqs(spool) == [1, 2, 3]
    for failures, left in ((2, [1, 2, 3]), (3, [2, 3])):
        disk.fails("pread", failures)
        for _ in range(2):
            with pytest.raises(CrowError) as caught:
                contents(spool)
            assert caught.value.kind is Kind.UNAVAILABLE
        assert seqs(spool) == left
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.CORRUPT, 1)]
    spool.close()


def test_a_disk_that_takes_no_notes_keeps_no_frame_from_being_delivered(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame() for _ in range(5)])
    (epoch,) = spool.epochs()
    with disk.patch.context() as patch:
        patch.setattr(os, "writev", refuses)
        spool.release(epoch, {"till": 3})
        assert "Input/output error" in str(spool.trouble)
        assert seqs(spool) == [4, 5]
    spool.release(epoch, {"till": 4})
    assert spool.trouble is None
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert seqs(again) == [5]
    again.close()


def refuses(*_: object) -> int:
    raise OSError(errno.EIO, "Input/output error")


def test_a_segment_that_the_disk_failed_before_its_first_frame_makes_no_fresh_frame_old(
    tmp_path: Path, disk: Disk
) -> None:
    spool = Spool(tmp_path, SpoolLimits(1 << 20, max_age_s=3600))
    spool.append([frame()])
    spool.release(spool.epochs()[0], {"till": 1})
    spool.start_epoch()
    disk.fails("fdatasync", 1)
    spool.append([frame()])
    spool.let_go_aged()
    assert seqs(spool) == [1]
    assert not spool.lost()
    spool.close()


def test_a_disk_that_refuses_again_and_again_is_not_strewn_with_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has room for a segment's start and for no picture."""
    writev = os.writev

    def short(descriptor: int, buffers: Sequence[memoryview]) -> int:
        if sum(map(len, buffers)) > 4096:
            raise OSError(errno.ENOSPC, "No space left on device")
        return writev(descriptor, buffers)

    spool = Spool(tmp_path, ROOM)
    spool.append([frame()])
    monkeypatch.setattr(os, "writev", short)
    for _ in range(10):
        with pytest.raises(CrowError):
            spool.append([frame(payload=bytes(5000))])
    assert len(segments(tmp_path)) <= 2
    monkeypatch.undo()
    last = spool.append([frame(payload=b"room again")])
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert contents(again)[-1] == last[0]
    again.close()


def test_a_cameras_first_frame_outlives_a_failed_write_of_it(tmp_path: Path, disk: Disk) -> None:
    """Its bytes lie on the disk twice then, and the first do not count."""
    spool = Spool(tmp_path, ROOM)
    spool.append([frame("till")])
    disk.fails("ftruncate", 99)
    disk.fails("fdatasync", 1)
    door = spool.append([frame("door")])[0]
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [f for f in contents(again) if f.camera_id == "door"] == [door]
    assert again.append([frame("door")])[0].seq == 2
    again.close()
